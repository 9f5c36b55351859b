//! What a call costs beyond being one, by the sizes of its arguments: the same count beforehand, with the largest
//! sizes their types allow, and while an expression runs, with the real ones.

/// As upstream's: whoever is asked may be far away.
const AUTHORIZATION_CHECK: u64 = 350_000;

/// `sizes` are characters, items or entries, of the receiver first.
pub fn extra(function: &str, sizes: &[u64]) -> u64 {
    let size = |index: usize| sizes.get(index).copied().unwrap_or(1);
    let tenth = |size: u64| size.div_ceil(10);
    let product = |a: u64, b: u64| a.saturating_mul(b);
    match function {
        "_+_" => tenth(size(0).saturating_add(size(1))),
        "_==_" | "_!=_" | "_<_" | "_<=_" | "_>_" | "_>=_" => tenth(size(0).min(size(1))),
        "@in" => size(1),
        "check" => AUTHORIZATION_CHECK,
        "contains" => tenth(product(size(0), size(1))),
        "startsWith" | "endsWith" => tenth(size(1)),
        "matches" | "find" | "findAll" => product(tenth(size(0).saturating_add(1)), size(1).div_ceil(4)),
        "sets.contains" | "sets.equivalent" | "sets.intersects" => product(size(0), size(1)),
        "distinct" => product(size(0), size(0)),
        "optional.unwrap" | "unwrapOpt" | "isSorted" | "sum" | "min" | "max" | "slice" | "sort" | "flatten"
        | "join" => size(0),
        // Of a list by item, of a text by letter; the dearer of both.
        "indexOf" | "lastIndexOf" => size(0).max(tenth(product(size(0), size(1)))),
        "jsonpatch.escapeKey"
        | "fieldSelector"
        | "labelSelector"
        | "charAt"
        | "lowerAscii"
        | "upperAscii"
        | "replace"
        | "split"
        | "substring"
        | "trim"
        | "reverse"
        | "format"
        | "strings.quote"
        | "string"
        | "bytes"
        | "url"
        | "isURL"
        | "quantity"
        | "isQuantity"
        | "ip"
        | "isIP"
        | "cidr"
        | "isCIDR"
        | "semver"
        | "isSemver"
        | "timestamp"
        | "duration"
        | "int"
        | "uint"
        | "double" => tenth(size(0)),
        "validate" | "ip.isCanonical" => tenth(size(1)).max(tenth(size(0))),
        _ => 0,
    }
}

/// The largest result of a call.
pub fn result_size(function: &str, sizes: &[u64]) -> u64 {
    let size = |index: usize| sizes.get(index).copied().unwrap_or(1);
    let result = match function {
        "_+_" => size(0).saturating_add(size(1)),
        "replace" => size(0).saturating_mul(size(2).max(1)),
        "join" => size(0).saturating_mul(size(1).max(16)),
        "_[_]" | "_[?_]" => return u64::MAX,
        "find" | "charAt" | "lowerAscii" | "upperAscii" | "substring" | "trim" | "reverse" | "split" | "findAll"
        | "slice" | "distinct" | "sort" | "string" | "bytes" | "dyn" => size(0),
        "strings.quote" => size(0).saturating_mul(2),
        _ => return u64::MAX,
    };
    result.min(crate::types::UNBOUNDED)
}
