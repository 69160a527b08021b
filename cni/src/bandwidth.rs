//! How much of a pod's traffic may pass, as a runtime asks for it.
//!
//! containerd and CRI-O turn the pod's annotations into the capability `bandwidth` themselves; a runtime that does not
//! may hand the annotations over as they are.

use serde_json::{Map, Value};
use towpath_kernel::netlink::{self, Socket};
use towpath_kernel::shaping;
use towpath_net::bandwidth::{Bandwidth, Limit};
use towpath_net::lease::Lease;

use crate::check::Mismatch;
use crate::config::{Error, any_case, field};
use crate::wish::ANNOTATIONS;

/// What a rate may be.
const RATE: &str =
    "a rate is a number of bits per second from 1000 (1k) to 1000000000000000 (1P); 0 or none is no limit";
/// What a burst may be.
const BURST: &str = "a burst is a number of bits; 0 or none is as little as is good for the rate";
/// What an annotation may be.
const QUANTITY: &str = "it should be a quantity of bits per second from 1k to 1P, such as \"10M\"";

/// The limits that the runtime asks for; what it says itself goes before the pod's annotations.
pub fn asked(config: &Map<String, Value>) -> Result<Option<Bandwidth>, Error> {
    let Some(runtime) = config.get("runtimeConfig") else { return Ok(None) };
    let capability = any_case(runtime, "bandwidth");
    let annotations = runtime.get(ANNOTATIONS).filter(|value| !value.is_null());
    let limit = |direction: &str| {
        let asked = capability.map(|value| from_capability(value, direction)).transpose()?.flatten();
        match (asked, annotations) {
            (None, Some(annotations)) => from_annotation(annotations, direction),
            (asked, _) => Ok(asked),
        }
    };
    let bandwidth = Bandwidth { ingress: limit("ingress")?, egress: limit("egress")? };
    Ok((bandwidth != Bandwidth::default()).then_some(bandwidth))
}

fn from_capability(capability: &Value, direction: &str) -> Result<Option<Limit>, Error> {
    if !capability.is_object() {
        return Err(field("runtimeConfig.bandwidth", capability, "it should be an object"));
    }
    let number = |what: &str, remedy| {
        let key = format!("{direction}{what}");
        match any_case(capability, &key) {
            None => Ok(0),
            Some(value) => value.as_u64().ok_or_else(|| field(path(&key), value, remedy)),
        }
    };
    let (rate, burst) = (number("Rate", RATE)?, number("Burst", BURST)?);
    match rate {
        0 => Ok(None),
        Limit::LOWEST..=Limit::HIGHEST => Ok(Some(Limit { rate, burst: Some(burst).filter(|bits| *bits > 0) })),
        _ => Err(field(path(&format!("{direction}Rate")), &rate.into(), RATE)),
    }
}

fn path(key: &str) -> String {
    format!("runtimeConfig.bandwidth.{key}")
}

fn from_annotation(annotations: &Value, direction: &str) -> Result<Option<Limit>, Error> {
    let key = format!("kubernetes.io/{direction}-bandwidth");
    let Some(value) = annotations.get(&key) else { return Ok(None) };
    let rate = value.as_str().and_then(quantity).filter(|rate| (Limit::LOWEST..=Limit::HIGHEST).contains(rate));
    match rate {
        Some(rate) => Ok(Some(Limit { rate, burst: None })),
        None => Err(field(format!("the pod's annotation {key}"), value, QUANTITY)),
    }
}

/// The suffixes of quantities (Kubernetes API conventions, "Resource Quantities"), less those below one.
const SUFFIXES: [(&str, u64); 10] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("Pi", 1 << 50),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
    ("P", 1_000_000_000_000_000),
];

/// A quantity as a whole number, rounded up as Kubernetes does.
fn quantity(text: &str) -> Option<u64> {
    let suffix = SUFFIXES.iter().find_map(|(suffix, factor)| Some((text.strip_suffix(suffix)?, *factor)));
    let exponent = || {
        let (number, exponent) = text.split_once(['e', 'E'])?;
        Some((number, 10u64.checked_pow(exponent.parse().ok()?)?))
    };
    let (number, factor) = suffix.or_else(exponent).unwrap_or((text, 1));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !is_number(whole) || !is_number(fraction) {
        return None;
    }
    let scale = 10u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    u64::try_from(digits.checked_mul(factor.into())?.div_ceil(scale)).ok()
}

/// Compares the limits of a lease with those that the kernel has.
pub fn check(node: &mut Socket, lease: &Lease) -> Result<Vec<Mismatch>, netlink::Error> {
    Ok(shaping::differences(node, lease)?.into_iter().map(Mismatch::Bandwidth).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn limits(runtime: &Value) -> Result<Option<Bandwidth>, Error> {
        asked(json!({"runtimeConfig": runtime}).as_object().unwrap())
    }

    const fn limit(rate: u64, burst: Option<u64>) -> Limit {
        Limit { rate, burst }
    }

    #[test]
    fn limits_are_read_in_both_spellings() {
        let expected =
            Bandwidth { ingress: Some(limit(10_000_000, Some(0xffff_ffff))), egress: Some(limit(5_000_000, None)) };
        for runtime in [
            json!({"bandwidth": {"IngressRate": 10_000_000, "IngressBurst": 4_294_967_295_u64, "EgressRate": 5_000_000, "EgressBurst": 0}}),
            json!({"Bandwidth": {"ingressRate": 10_000_000, "ingressBurst": 4_294_967_295_u64, "egressRate": 5_000_000}}),
            json!({"bandWidth": {"ingressRate": 10_000_000, "ingressBurst": 4_294_967_295_u64, "egressRate": 5_000_000}}),
        ] {
            assert_eq!(limits(&runtime).unwrap(), Some(expected), "{runtime}");
        }
    }

    #[test]
    fn no_rate_is_no_limit() {
        for runtime in
            [json!({}), json!({"bandwidth": null}), json!({"bandwidth": {"IngressRate": 0, "EgressBurst": 9}})]
        {
            assert_eq!(limits(&runtime).unwrap(), None, "{runtime}");
        }
    }

    #[test]
    fn what_is_no_rate_is_refused_by_name() {
        for (bandwidth, named) in [
            (json!({"ingressRate": 999}), "runtimeConfig.bandwidth.ingressRate is 999"),
            (
                json!({"egressRate": 1_000_000_000_000_001_u64}),
                "runtimeConfig.bandwidth.egressRate is 1000000000000001",
            ),
            (json!({"EgressRate": -1}), "runtimeConfig.bandwidth.egressRate is -1"),
            (json!({"ingressRate": 1000, "ingressBurst": "1"}), "runtimeConfig.bandwidth.ingressBurst is \"1\""),
            (json!([]), "runtimeConfig.bandwidth is []"),
        ] {
            let error = limits(&json!({"bandwidth": bandwidth})).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn annotations_count_where_the_runtime_says_nothing_itself() {
        let annotations =
            json!({"kubernetes.io/ingress-bandwidth": "10M", "kubernetes.io/egress-bandwidth": "1Gi", "x": "y"});
        let runtime = json!({ANNOTATIONS: annotations, "bandwidth": {"EgressRate": 8000}});
        let expected = Bandwidth { ingress: Some(limit(10_000_000, None)), egress: Some(limit(8000, None)) };
        assert_eq!(limits(&runtime).unwrap(), Some(expected));
        for wrong in ["", "x", "-1M", "1.2.3", "999", "2P", "1E", "500m", "+5M"] {
            let runtime = json!({ANNOTATIONS: {"kubernetes.io/egress-bandwidth": wrong}});
            let error = limits(&runtime).unwrap_err().to_string();
            assert!(error.contains("the pod's annotation kubernetes.io/egress-bandwidth is"), "{error}");
        }
    }

    #[test]
    fn quantities_are_those_of_kubernetes() {
        for (text, expected) in [
            ("1000", 1000),
            ("1k", 1000),
            ("1.5M", 1_500_000),
            (".5Mi", 524_288),
            ("1e6", 1_000_000),
            ("0.0011k", 2),
            ("1P", 1_000_000_000_000_000),
        ] {
            assert_eq!(quantity(text), Some(expected), "{text}");
        }
        assert_eq!(quantity("99999999999999999999P"), None);
    }
}
