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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn reviewed(audience: &str, nodes: &[&str]) -> TokenReviewStatus {
        let nodes = nodes.iter().map(|node| (*node).to_owned()).collect();
        let user = UserInfo {
            username: Some("system:serviceaccount:towpath-system:towpath-agent".to_owned()),
            extra: Some(BTreeMap::from([(NODE_NAME.to_owned(), nodes)])),
            ..UserInfo::default()
        };
        let audiences = Some(vec![audience.to_owned()]);
        TokenReviewStatus { authenticated: Some(true), audiences, user: Some(user), error: None }
    }

    #[test]
    fn the_node_of_a_token_is_what_the_api_server_says() {
        let Judgement::Authentic { user, node } = judgement(reviewed(AUDIENCE, &["n1"])) else { panic!() };
        assert_eq!(user, "system:serviceaccount:towpath-system:towpath-agent");
        assert_eq!(node, Some("n1".into()));
    }

    #[test]
    fn what_is_not_clearly_good_is_refused_or_has_no_node() {
        for nodes in [&[][..], &[""], &["n1", "n2"]] {
            assert!(matches!(judgement(reviewed(AUDIENCE, nodes)), Judgement::Authentic { node: None, .. }));
        }
        let unheeded = TokenReviewStatus { audiences: None, ..reviewed(AUDIENCE, &["n1"]) };
        let unauthentic = TokenReviewStatus { authenticated: Some(false), ..reviewed(AUDIENCE, &["n1"]) };
        for status in [reviewed("other", &["n1"]), unheeded, unauthentic, TokenReviewStatus::default()] {
            assert!(matches!(judgement(status), Judgement::Refused(_)));
        }
    }
}
