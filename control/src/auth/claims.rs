//! What a token says of itself. Only the API server tells whether it is true.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

/// The claims of a service account's token (RFC 7519, section 4.1) that matter before it is reviewed.
#[derive(Debug, Deserialize)]
pub struct Claims {
    #[serde(default)]
    aud: Audience,
    exp: u64,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    Many(Vec<String>),
    One(String),
}

impl Default for Audience {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl Claims {
    /// Of a token, if it has the form of one (RFC 7515, section 7.1).
    pub fn read(token: &str) -> Option<Self> {
        let mut parts = token.split('.');
        let (_, claims, _) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let json = URL_SAFE_NO_PAD.decode(claims).ok()?;
        serde_json::from_slice(&json).ok()
    }

    /// When it expires.
    pub fn expires(&self) -> SystemTime {
        let since = Duration::from_secs(self.exp);
        SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// Whether it is for this audience, and has not expired.
    pub fn is_for(&self, audience: &str, now: SystemTime) -> bool {
        let is_for = match &self.aud {
            Audience::Many(all) => all.iter().any(|one| one == audience),
            Audience::One(one) => one == audience,
        };
        is_for && now < self.expires()
    }
}
