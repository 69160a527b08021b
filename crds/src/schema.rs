//! Schemas that cannot be derived.

use kube::core::Rule;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::json;

use crate::rules;

/// `metav1.Condition` with the limits that upstream's own schema has and the binding's lacks.
pub fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "description": "One aspect of the object's state.",
            "required": ["type", "status", "lastTransitionTime", "reason", "message"],
            "properties": {
                "type": {
                    "type": "string", "maxLength": 316,
                    "description": "What the condition is about, as in Ready."
                },
                "status": {
                    "type": "string", "enum": ["True", "False", "Unknown"],
                    "description": "Whether it is so: True, False or Unknown."
                },
                "observedGeneration": {
                    "type": "integer", "format": "int64", "minimum": 0,
                    "description": "The metadata.generation that this was said about."
                },
                "lastTransitionTime": {
                    "type": "string", "format": "date-time",
                    "description": "When status last changed."
                },
                "reason": {
                    "type": "string", "minLength": 1, "maxLength": 1024,
                    "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
                    "description": "Why, in one word for programs."
                },
                "message": {
                    "type": "string", "maxLength": 32768,
                    "description": "Why, for people, and what to do next."
                }
            }
        }
    })
}

/// `Auto` or a number of bytes.
pub fn int_or_string(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "x-kubernetes-int-or-string": true,
        "maxLength": 16
    })
}

/// The longest text of a CIDR: an IPv6 address of 39 characters, a slash and three digits.
const LONGEST_CIDR: usize = 43;

/// How server-side apply merges a list.
#[derive(Clone, Copy)]
enum Merge {
    Atomic,
    Set,
}

fn text(longest: usize, rules: &[Rule]) -> Schema {
    let mut item = json_schema!({"type": "string", "minLength": 2, "maxLength": longest});
    if !rules.is_empty() {
        item.insert("x-kubernetes-validations".to_owned(), json!(rules));
    }
    item
}

fn texts(most: usize, merge: Merge, rules: &[Rule]) -> Schema {
    let item = text(LONGEST_CIDR, rules);
    let kind = match merge {
        Merge::Atomic => "atomic",
        Merge::Set => "set",
    };
    json_schema!({"type": "array", "maxItems": most, "x-kubernetes-list-type": kind, "items": item})
}

/// One range of pods.
pub fn cidr(_: &mut SchemaGenerator) -> Schema {
    text(LONGEST_CIDR, &rules::of_cidr(true))
}

/// Addresses and ranges of a pool.
pub fn addresses_and_cidrs(_: &mut SchemaGenerator) -> Schema {
    texts(16, Merge::Set, &rules::of_address_or_cidr())
}

/// Labels of nodes, as of metav1.LabelSelector.
pub fn labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "maxProperties": 16, "additionalProperties": label_value()})
}

/// Values of a label.
pub fn label_values(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "array", "maxItems": 32, "x-kubernetes-list-type": "set", "items": label_value()})
}

fn label_value() -> Schema {
    json_schema!({"type": "string", "maxLength": 63, "pattern": "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"})
}

/// The ranges of pods, one of each family.
pub fn pods(_: &mut SchemaGenerator) -> Schema {
    texts(2, Merge::Atomic, &rules::of_cidr(true))
}

/// A node's CIDRs, as many as it may have.
pub fn blocks(_: &mut SchemaGenerator) -> Schema {
    texts(64, Merge::Atomic, &rules::of_cidr(true))
}

/// Addresses and ranges that are given on request only: of all pools together.
pub fn reserved(_: &mut SchemaGenerator) -> Schema {
    texts(512, Merge::Atomic, &rules::of_cidr(false))
}

/// Addresses, one of each family.
pub fn addresses(_: &mut SchemaGenerator) -> Schema {
    texts(2, Merge::Atomic, &rules::of_address())
}

/// Addresses outside of the cluster, one of each family.
pub fn usable_addresses(_: &mut SchemaGenerator) -> Schema {
    texts(2, Merge::Atomic, &rules::of_usable_address())
}

/// Ranges that nodes look for their addresses in, in order.
pub fn places(_: &mut SchemaGenerator) -> Schema {
    texts(16, Merge::Atomic, &rules::of_cidr(true))
}

/// Ranges of pods of the whole cluster.
pub fn pod_ranges(_: &mut SchemaGenerator) -> Schema {
    texts(32, Merge::Atomic, &rules::of_cidr(true))
}

/// Patterns of interface names, in order: what the kernel takes as a name, with `*` for anything.
pub fn interfaces(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array", "maxItems": 16, "x-kubernetes-list-type": "atomic",
        "items": {"type": "string", "minLength": 1, "maxLength": 15, "pattern": "^[^/:\\s]+$"}
    })
}

/// Ranges of Services.
pub fn services(_: &mut SchemaGenerator) -> Schema {
    texts(8, Merge::Set, &rules::of_cidr(true))
}

/// Ranges that node addresses are chosen from.
pub fn nodes(_: &mut SchemaGenerator) -> Schema {
    texts(16, Merge::Set, &rules::of_cidr(true))
}

/// Ranges that are not masqueraded towards, as users give them.
pub fn excluded(_: &mut SchemaGenerator) -> Schema {
    texts(64, Merge::Set, &rules::of_cidr(false))
}

/// Ranges that are not masqueraded towards, with every range of the cluster.
pub fn all_excluded(_: &mut SchemaGenerator) -> Schema {
    texts(128, Merge::Atomic, &rules::of_cidr(false))
}
