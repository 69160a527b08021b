//! The API server as the judge.

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus, UserInfo};
use kube::Client;
use kube::api::{Api, PostParams};
use towpath_net::state::NodeName;

use super::{AUDIENCE, Judge, Judgement, Unavailable};

/// Where the API server names the node of a token's pod (KEP-4193).
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";

/// Has tokens reviewed by the API server.
pub struct KubeJudge {
    reviews: Api<TokenReview>,
}

impl KubeJudge {
    /// By this client, which may create `tokenreviews`.
    pub fn new(client: Client) -> Self {
        Self { reviews: Api::all(client) }
    }
}

impl Judge for KubeJudge {
    async fn judge(&self, token: &str) -> Result<Judgement, Unavailable> {
        let spec = TokenReviewSpec { audiences: Some(vec![AUDIENCE.to_owned()]), token: Some(token.to_owned()) };
        let review = TokenReview { spec, ..TokenReview::default() };
        let reviewed = self.reviews.create(&PostParams::default(), &review).await;
        let reviewed = reviewed.map_err(|error| Unavailable(error.to_string()))?;
        Ok(judgement(reviewed.status.unwrap_or_default()))
    }
}

fn judgement(status: TokenReviewStatus) -> Judgement {
    if status.authenticated != Some(true) {
        return Judgement::Refused(status.error.unwrap_or_else(|| "it is not authentic".to_owned()));
    }
    // An authenticator that knows nothing of audiences names none (TokenReviewStatus.audiences).
    if !status.audiences.unwrap_or_default().iter().any(|audience| audience == AUDIENCE) {
        return Judgement::Refused(format!("it is not for the audience {AUDIENCE}"));
    }
    let UserInfo { username, extra, .. } = status.user.unwrap_or_default();
    let node = extra.unwrap_or_default().remove(NODE_NAME).and_then(|mut names| {
        let name = names.pop();
        name.filter(|name| names.is_empty() && !name.is_empty())
    });
    Judgement::Authentic { user: username.unwrap_or_default(), node: node.map(NodeName) }
}
