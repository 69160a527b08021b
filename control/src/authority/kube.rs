//! A Secret for the authorities, and a `ConfigMap` for their certificates.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};

use super::{Authorities, Loaded, Store, StoreError, Stored};
use crate::{AUTHORITIES_KEY, CONFIG_MAP};

/// The name of the Secret.
const SECRET: &str = "towpath-control-ca";
/// Its key.
const KEY: &str = "authorities.json";

/// Keeps authorities in a namespace of the API server.
pub struct KubeStore {
    secrets: Api<Secret>,
    config_maps: Api<ConfigMap>,
}

impl KubeStore {
    /// In this namespace.
    pub fn new(client: Client, namespace: &str) -> Self {
        Self { secrets: Api::namespaced(client.clone(), namespace), config_maps: Api::namespaced(client, namespace) }
    }
}

impl Store for KubeStore {
    async fn load(&self) -> Result<Option<Loaded>, StoreError> {
        let secret = self.secrets.get_opt(SECRET).await.map_err(|error| failed("read", "Secret", SECRET, &error))?;
        secret.map(|secret| loaded(&secret)).transpose()
    }

    async fn store(&self, authorities: &Authorities, before: Option<&Loaded>) -> Result<Stored, StoreError> {
        let secret = secret(authorities, before)?;
        let params = PostParams::default();
        let written = match before {
            Some(_) => self.secrets.patch(SECRET, &PatchParams::default(), &Patch::Merge(&secret)).await,
            None => self.secrets.create(&params, &secret).await,
        };
        match written {
            Ok(_) => Ok(Stored::Done),
            Err(error) if is_conflict(&error) => Ok(Stored::Conflict),
            Err(error) => Err(failed("write", "Secret", SECRET, &error)),
        }
    }

    async fn publish(&self, pem: &str) -> Result<(), StoreError> {
        let there = self.config_maps.get_opt(CONFIG_MAP).await;
        let there = there.map_err(|error| failed("read", "ConfigMap", CONFIG_MAP, &error))?;
        let data = BTreeMap::from([(AUTHORITIES_KEY.to_owned(), pem.to_owned())]);
        let named = |name: Option<String>| ConfigMap {
            data: Some(data.clone()),
            metadata: ObjectMeta { name, ..ObjectMeta::default() },
            ..ConfigMap::default()
        };
        let written = match there {
            Some(map) if map.data.as_ref().and_then(|data| data.get(AUTHORITIES_KEY)).is_some_and(|is| is == pem) => {
                return Ok(());
            }
            Some(_) => {
                let patch = Patch::Merge(named(None));
                self.config_maps.patch(CONFIG_MAP, &PatchParams::default(), &patch).await
            }
            None => self.config_maps.create(&PostParams::default(), &named(Some(CONFIG_MAP.to_owned()))).await,
        };
        written.map(drop).map_err(|error| failed("write", "ConfigMap", CONFIG_MAP, &error))
    }
}

/// Somebody wrote it in between, or made it (`metav1.Status` reasons `Conflict` and `AlreadyExists`).
fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

fn failed(operation: &'static str, kind: &str, name: &str, error: &kube::Error) -> StoreError {
    StoreError::Api { operation, object: format!("{kind} {name}"), reason: error.to_string() }
}

fn malformed(reason: String) -> StoreError {
    StoreError::Malformed { object: format!("Secret {SECRET}"), reason }
}

fn loaded(secret: &Secret) -> Result<Loaded, StoreError> {
    let json = secret.data.as_ref().and_then(|data| data.get(KEY));
    let json = json.ok_or_else(|| malformed(format!("it has no key {KEY}")))?;
    let authorities = serde_json::from_slice(&json.0).map_err(|error| malformed(error.to_string()))?;
    let created = secret.metadata.creation_timestamp.as_ref().and_then(|time| {
        let since = u64::try_from(time.0.as_second()).ok()?;
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(since))
    });
    Ok(Loaded { authorities, version: secret.resource_version().unwrap_or_default(), created })
}

fn secret(authorities: &Authorities, before: Option<&Loaded>) -> Result<Secret, StoreError> {
    let json = serde_json::to_vec(authorities).map_err(|error| malformed(error.to_string()))?;
    let metadata = ObjectMeta {
        name: Some(SECRET.to_owned()),
        resource_version: before.map(|before| before.version.clone()),
        ..ObjectMeta::default()
    };
    let data = BTreeMap::from([(KEY.to_owned(), ByteString(json))]);
    Ok(Secret { data: Some(data), metadata, ..Secret::default() })
}
