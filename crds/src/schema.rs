//! Schemas that cannot be derived.

use schemars::{Schema, SchemaGenerator, json_schema};

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
        "anyOf": [{"type": "integer"}, {"type": "string"}],
        "maxLength": 16
    })
}

/// The longest text of a CIDR: an IPv6 address of 39 characters, a slash and three digits.
const LONGEST_CIDR: usize = 43;

macro_rules! texts {
    ($($(#[$doc:meta])* $name:ident: $most:literal, $kind:literal;)*) => {
        $(
            $(#[$doc])*
            pub fn $name(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "type": "array",
                    "maxItems": $most,
                    "x-kubernetes-list-type": $kind,
                    "items": {"type": "string", "minLength": 2, "maxLength": LONGEST_CIDR}
                })
            }
        )*
    };
}

texts! {
    /// At most two CIDRs or addresses, one of each family.
    one_per_family: 2, "atomic";
    /// The cluster's Service ranges.
    services: 8, "set";
    /// The ranges that node addresses are chosen from.
    nodes: 16, "set";
    /// Ranges that are not masqueraded towards.
    excluded: 64, "set";
    /// What users excluded and every range of the cluster.
    all_excluded: 96, "atomic";
}
