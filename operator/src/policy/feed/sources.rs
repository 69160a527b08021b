//! What is watched, each object read at once.

use std::fmt::Debug;
use std::future::ready;
use std::hash::{BuildHasher, RandomState};

use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::Api;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use towpath_crds::cluster_policy::{CLUSTER_NETWORK_POLICIES, CLUSTER_NETWORK_POLICY_VERSION, ClusterNetworkPolicy};
use towpath_net::policy::compile::Change;
use towpath_net::policy::input::{Key, Namespace, Node, Pod};
use towpath_net::state::NodeName;

use crate::cache::{Patience, WATCH_SECONDS};
use crate::policy::cluster_policy::cluster_policy;
use crate::policy::network_policy::network_policy;
use crate::policy::objects::{ApiDefinition, ApiNamespace, ApiNetworkPolicy, ApiNode, ApiPod, key};
use crate::policy::report::{Complaint, PolicyId, PolicyKind};

/// What is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Namespace,
    Node,
    Pod,
    NetworkPolicy,
    ClusterNetworkPolicy,
}

impl Kind {
    pub const ALL: [Self; 5] =
        [Self::Namespace, Self::Node, Self::Pod, Self::NetworkPolicy, Self::ClusterNetworkPolicy];

    /// That an object is gone, by its [`name`].
    pub fn gone(self, name: &str) -> Change {
        match self {
            Self::Namespace => Change::NamespaceGone(name.to_owned()),
            Self::Node => Change::NodeGone(NodeName(name.to_owned())),
            Self::Pod => Change::PodGone(split(name)),
            Self::NetworkPolicy => Change::PolicyGone(split(name)),
            Self::ClusterNetworkPolicy => Change::ClusterPolicyGone(name.to_owned()),
        }
    }

    /// How a policy is reported, by its [`name`].
    pub fn policy_id(self, name: &str) -> Option<PolicyId> {
        let kind = match self {
            Self::Namespace | Self::Node | Self::Pod => return None,
            Self::NetworkPolicy => PolicyKind::NetworkPolicy,
            Self::ClusterNetworkPolicy => PolicyKind::ClusterNetworkPolicy,
        };
        Some(PolicyId { kind, key: split(name) })
    }
}

/// An object that is there.
pub(super) struct Item {
    /// Its [`name`].
    pub name: Box<str>,
    /// A hash of what it says.
    pub print: u64,
    /// `metadata.generation`.
    pub generation: i64,
    /// What it says.
    pub change: Change,
    /// What of it cannot be honoured, where it is a policy.
    pub policy: Option<(PolicyId, Complaint)>,
}

/// What a watch tells.
#[allow(clippy::large_enum_variant, reason = "there is one at a time, and nearly all are the largest")]
pub(super) enum Step {
    /// All objects are listed from now on.
    Begun,
    /// An object is there.
    Is(Item),
    /// An object is gone, by its [`name`].
    Gone(Box<str>),
    /// All objects were listed.
    Listed,
}

/// What some watches tell.
pub(super) type Steps = BoxStream<'static, (Kind, Step)>;

/// What is watched in every cluster.
pub(super) fn always(client: &Client) -> [Steps; 4] {
    [
        follow(client, Kind::Namespace, |object: ApiNamespace, hasher| {
            let object = Namespace::from(object);
            (hasher.hash_one(&object), Change::Namespace(object), None)
        }),
        follow(client, Kind::Node, |object: ApiNode, hasher| {
            let object = Node::from(object);
            (hasher.hash_one(&object), Change::Node(object), None)
        }),
        follow(client, Kind::Pod, |object: ApiPod, hasher| {
            let object = Pod::from(object);
            (hasher.hash_one(&object), Change::Pod(object), None)
        }),
        follow(client, Kind::NetworkPolicy, |object: ApiNetworkPolicy, hasher| {
            let (uid, key) = (object.uid().unwrap_or_default(), key(object.meta()));
            let (policy, findings) = network_policy(key, object.spec);
            (hasher.hash_one(&policy), Change::Policy(policy), Some(Complaint { uid, findings }))
        }),
    ]
}

/// What is watched where it is defined.
pub(super) fn cluster_policies(client: &Client) -> Steps {
    follow(client, Kind::ClusterNetworkPolicy, |object: ClusterNetworkPolicy, hasher| {
        let (uid, name) = (object.uid().unwrap_or_default(), object.name_any());
        let (policy, findings) = cluster_policy(name.clone(), object.spec);
        let print = hasher.hash_one(&policy);
        let change = policy.map_or(Change::ClusterPolicyGone(name), Change::ClusterPolicy);
        (print, change, Some(Complaint { uid, findings }))
    })
}

/// Whether `ClusterNetworkPolicy` is defined, in the version that is read, each time that something of it may have
/// changed.
pub(super) fn definition(client: &Client) -> BoxStream<'static, bool> {
    let config = watcher::Config::default().fields(&format!("metadata.name={CLUSTER_NETWORK_POLICIES}"));
    let events = watch(Api::<ApiDefinition>::all(client.clone()), config);
    let mut is_there = false;
    let judge = move |event: Event<ApiDefinition>| {
        let is_settled = match event {
            Event::Init => {
                is_there = false;
                false
            }
            Event::InitApply(definition) => {
                is_there = definition.serves(CLUSTER_NETWORK_POLICY_VERSION);
                false
            }
            Event::Apply(definition) => {
                is_there = definition.serves(CLUSTER_NETWORK_POLICY_VERSION);
                true
            }
            Event::Delete(_) => {
                is_there = false;
                true
            }
            Event::InitDone => true,
        };
        ready(is_settled.then_some(is_there))
    };
    events.filter_map(judge).boxed()
}

/// What is read of an object: the hash of what it says, what it says, and what of it cannot be honoured.
type Read<K> = fn(K, &RandomState) -> (u64, Change, Option<Complaint>);

fn follow<K>(client: &Client, kind: Kind, read: Read<K>) -> Steps
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let hasher = RandomState::new();
    let item = move |object: K| {
        let (name, generation) = (name(object.meta()), object.meta().generation.unwrap_or_default());
        let (print, change, complaint) = read(object, &hasher);
        let policy = kind.policy_id(&name).zip(complaint);
        Item { name, print, generation, change, policy }
    };
    let step = move |event| match event {
        Event::Init => Step::Begun,
        Event::InitApply(object) | Event::Apply(object) => Step::Is(item(object)),
        Event::Delete(object) => Step::Gone(name(object.meta())),
        Event::InitDone => Step::Listed,
    };
    let events = watch(Api::<K>::all(client.clone()), watcher::Config::default());
    events.map(move |event| (kind, step(event))).boxed()
}

/// Events of a kind, without end. Lists are streamed where the API server does so (KEP-3157): neither side holds a whole one.
fn watch<K>(api: Api<K>, config: watcher::Config) -> impl Stream<Item = Event<K>> + Send + 'static
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let kind = K::kind(&());
    let config = config.timeout(WATCH_SECONDS);
    let streamed = watcher(api.clone(), config.clone().streaming_lists());
    let taken = |event: &watcher::Result<Event<K>>| ready(!event.as_ref().is_err_and(streams_no_lists));
    let events = streamed.take_while(taken).chain(watcher(api, config)).backoff(Patience::default());
    events.filter_map(move |event| {
        ready(event.inspect_err(|error| tracing::warn!(%kind, %error, "watch interrupted")).ok())
    })
}

/// Whether an API server refuses to stream lists: its feature gate `WatchList` is off, or it has none.
fn streams_no_lists(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchStartFailed(kube::Error::Api(status)) if status.code == 422)
}

/// Namespace and name of an object in one text, the name alone where it has no namespace.
fn name(metadata: &ObjectMeta) -> Box<str> {
    let name = metadata.name.as_deref().unwrap_or_default();
    match metadata.namespace.as_deref() {
        None => name.into(),
        Some(namespace) => format!("{namespace}/{name}").into(),
    }
}

/// Namespace and name out of one text: neither can hold a slash.
fn split(name: &str) -> Key {
    let (namespace, name) = name.split_once('/').unwrap_or(("", name));
    Key { namespace: namespace.to_owned(), name: name.to_owned() }
}
