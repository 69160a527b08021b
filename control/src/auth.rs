//! Whose call it is: agents show the token of their service account, which is bound to their pod and so to their node.
//!
//! The API server judges tokens (`TokenReview`, `authentication.k8s.io/v1`). Since Kubernetes 1.32 it names the node of the
//! token's pod (KEP-4193); that decides, whatever the agent says. Judgements are kept until they are five minutes old, or
//! the token expires; while the API server does not answer, older ones count until the token expires.

mod cache;
mod claims;
mod kube;

use std::future::Future;
use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::AUTHORIZATION;
use tokio::sync::Semaphore;
use towpath_net::state::NodeName;

use cache::{Cache, Fingerprint, Kept};
use claims::Claims;

pub use self::kube::KubeJudge;

/// The audience of the agents' tokens.
pub const AUDIENCE: &str = "towpath-control";

/// How many reviews are under way at once.
const REVIEWS: usize = 16;
/// How long a caller is believed at most, whatever its token says.
const LONGEST: Duration = Duration::from_hours(24);
/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who judges tokens.
pub trait Judge: Send + Sync + 'static {
    /// Judges one, for [`AUDIENCE`].
    fn judge(&self, token: &str) -> impl Future<Output = Result<Judgement, Unavailable>> + Send;
}

/// What is true of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It is good.
    Authentic {
        /// The user's name: `system:serviceaccount:NAMESPACE:NAME`.
        user: String,
        /// The node of the pod that it is bound to.
        node: Option<NodeName>,
    },
    /// It is not, for this reason.
    Refused(String),
}

/// The judge does not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unavailable(pub String);

/// Why a caller is not an agent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no token.
    #[error("there is no bearer token: agents send that of their service account for the audience {AUDIENCE}")]
    NoToken,
    /// It is no token of a service account for this audience.
    #[error("the token is not one of a service account for the audience {AUDIENCE}, or has expired")]
    Unfit,
    /// The API server says that it is not good.
    #[error("the API server refuses the token: {0}")]
    NotAuthentic(String),
    /// It is another user's.
    #[error("{0} is not the agents' service account")]
    NotAnAgent(String),
    /// It is bound to no node.
    #[error("the token is bound to no node: it must be the projected token of a pod, and Kubernetes 1.32 or newer")]
    NoNode,
    /// Nobody can tell.
    #[error("the token cannot be reviewed: {0}")]
    Unavailable(String),
}

/// Who makes a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The node whose agent it is.
    pub node: NodeName,
    /// How long its token is still good for, and no longer than a day: then it must say again who it is.
    pub lasts: Duration,
}

/// Learns whose calls they are.
pub struct Authenticator<J> {
    judge: J,
    user: String,
    cache: Cache,
    reviews: Semaphore,
    clock: fn() -> SystemTime,
}

impl<J: Judge> Authenticator<J> {
    /// Agents are who has this user name: `system:serviceaccount:NAMESPACE:NAME`.
    pub fn new(judge: J, user: String, clock: fn() -> SystemTime) -> Self {
        Self { judge, user, cache: Cache::default(), reviews: Semaphore::new(REVIEWS), clock }
    }

    /// The agent that makes a call.
    pub async fn identify(&self, headers: &HeaderMap) -> Result<Caller, Refused> {
        let token = bearer(headers).ok_or(Refused::NoToken)?;
        let now = (self.clock)();
        // Whoever can make up a text can have the API server asked about it: what is no token at all is not passed on.
        let claims = Claims::read(token).filter(|claims| claims.is_for(AUDIENCE, now)).ok_or(Refused::Unfit)?;
        let lasts = claims.expires().duration_since(now).unwrap_or_default().min(LONGEST);
        let node = self.node_of(token, &claims, now).await?;
        Ok(Caller { node, lasts })
    }

    async fn node_of(&self, token: &str, claims: &Claims, now: SystemTime) -> Result<NodeName, Refused> {
        let fingerprint = Fingerprint::of(token);
        let kept = self.cache.get(fingerprint);
        if let Some(kept) = kept.as_ref().filter(|kept| kept.is_fresh(now)) {
            return kept.result.clone();
        }
        match self.review(token).await {
            Ok(judgement) => {
                let result = self.decide(judgement);
                self.cache.put(fingerprint, Kept::new(result.clone(), now, claims.expires()), now);
                result
            }
            Err(unavailable) => match kept {
                Some(Kept { result: Ok(node), .. }) => Ok(node),
                _ => Err(Refused::Unavailable(unavailable.0)),
            },
        }
    }

    async fn review(&self, token: &str) -> Result<Judgement, Unavailable> {
        let late = || Unavailable(format!("the API server did not answer within {PATIENCE:?}"));
        let review = async {
            let _permit = self.reviews.acquire().await.map_err(|_| late())?;
            self.judge.judge(token).await
        };
        tokio::time::timeout(PATIENCE, review).await.map_err(|_| late())?
    }

    fn decide(&self, judgement: Judgement) -> Result<NodeName, Refused> {
        match judgement {
            Judgement::Refused(reason) => Err(Refused::NotAuthentic(reason)),
            Judgement::Authentic { user, .. } if user != self.user => Err(Refused::NotAnAgent(user)),
            Judgement::Authentic { node, .. } => node.ok_or(Refused::NoNode),
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim()).filter(|token| !token.is_empty())
}
