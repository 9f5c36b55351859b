//! Every function: what it takes and gives. `A` and `B` stand for any type, the same at each place.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use crate::authorization::Authorization;
use crate::types::{Kind, Ty};

/// What stands before the dot of `sets.contains` and the like.
pub const LIBRARIES: &[&str] = &["sets", "optional", "ip", "format", "strings", "cel", "jsonpatch"];

const TABLE: &str = "
_+_(int, int) int | _+_(uint, uint) uint | _+_(double, double) double | _+_(string, string) string
_+_(bytes, bytes) bytes | _+_(list<A>, list<A>) list<A> | _+_(timestamp, duration) timestamp
_+_(duration, timestamp) timestamp | _+_(duration, duration) duration
_-_(int, int) int | _-_(uint, uint) uint | _-_(double, double) double | _-_(timestamp, timestamp) duration
_-_(timestamp, duration) timestamp | _-_(duration, duration) duration
_*_(int, int) int | _*_(uint, uint) uint | _*_(double, double) double
_/_(int, int) int | _/_(uint, uint) uint | _/_(double, double) double
_%_(int, int) int | _%_(uint, uint) uint
-_(int) int | -_(double) double
!_(bool) bool
_==_(A, A) bool | _!=_(A, A) bool
_<_(ORD, ORD) bool | _<=_(ORD, ORD) bool | _>_(ORD, ORD) bool | _>=_(ORD, ORD) bool
@in(A, list<A>) bool | @in(A, map<A, B>) bool
size(string) int | size(bytes) int | size(list<A>) int | size(map<A, B>) int
string.size() int | bytes.size() int | list<A>.size() int | map<A, B>.size() int
type(A) type | dyn(A) dyn
int(int) int | int(uint) int | int(double) int | int(string) int | int(timestamp) int | int(duration) int
uint(uint) uint | uint(int) uint | uint(double) uint | uint(string) uint
double(double) double | double(int) double | double(uint) double | double(string) double
bool(bool) bool | bool(string) bool
bytes(bytes) bytes | bytes(string) bytes
string(string) string | string(int) string | string(uint) string | string(double) string | string(bool) string
string(bytes) string | string(timestamp) string | string(duration) string
string(ip) string | string(cidr) string
timestamp(timestamp) timestamp | timestamp(string) timestamp | timestamp(int) timestamp
duration(duration) duration | duration(string) duration | duration(int) duration
string.contains(string) bool | string.startsWith(string) bool | string.endsWith(string) bool
string.matches(string) bool | matches(string, string) bool
timestamp.getFullYear() int | timestamp.getFullYear(string) int | timestamp.getMonth() int
timestamp.getMonth(string) int | timestamp.getDate() int | timestamp.getDate(string) int
timestamp.getDayOfMonth() int | timestamp.getDayOfMonth(string) int | timestamp.getDayOfWeek() int
timestamp.getDayOfWeek(string) int | timestamp.getDayOfYear() int | timestamp.getDayOfYear(string) int
timestamp.getHours() int | timestamp.getHours(string) int | timestamp.getMinutes() int
timestamp.getMinutes(string) int | timestamp.getSeconds() int | timestamp.getSeconds(string) int
timestamp.getMilliseconds() int | timestamp.getMilliseconds(string) int
duration.getHours() int | duration.getMinutes() int | duration.getSeconds() int | duration.getMilliseconds() int
string.charAt(int) string | string.indexOf(string) int | string.indexOf(string, int) int
string.lastIndexOf(string) int | string.lastIndexOf(string, int) int | string.lowerAscii() string
string.upperAscii() string | string.replace(string, string) string | string.replace(string, string, int) string
string.split(string) list<string> | string.split(string, int) list<string> | string.substring(int) string
string.substring(int, int) string | string.trim() string
list<string>.join() string | list<string>.join(string) string | string.format(list<dyn>) string
strings.quote(string) string
string.find(string) string | string.findAll(string) list<string> | string.findAll(string, int) list<string>
list<A>.isSorted() bool | list<A>.sum() A | list<A>.min() A | list<A>.max() A
list<A>.indexOf(A) int | list<A>.lastIndexOf(A) int
list<A>.slice(int, int) list<A> | list<A>.distinct() list<A> | list<A>.reverse() list<A> | list<A>.sort() list<A>
list<A>.first() optional<A> | list<A>.last() optional<A> | list<dyn>.flatten() list<dyn>
sets.contains(list<A>, list<A>) bool | sets.equivalent(list<A>, list<A>) bool | sets.intersects(list<A>, list<A>) bool
url(string) url | isURL(string) bool | url.getScheme() string | url.getHost() string | url.getHostname() string
url.getPort() string | url.getEscapedPath() string | url.getQuery() map<string, list<string>>
quantity(string) quantity | isQuantity(string) bool | quantity.isInteger() bool | quantity.asInteger() int
quantity.asApproximateFloat() double | quantity.sign() int | quantity.add(quantity) quantity
quantity.add(int) quantity | quantity.sub(quantity) quantity | quantity.sub(int) quantity
quantity.isLessThan(quantity) bool | quantity.isGreaterThan(quantity) bool | quantity.compareTo(quantity) int
ip(string) ip | isIP(string) bool | ip.isCanonical(string) bool | ip.family() int | ip.isUnspecified() bool
ip.isLoopback() bool | ip.isLinkLocalMulticast() bool | ip.isLinkLocalUnicast() bool | ip.isGlobalUnicast() bool
cidr(string) cidr | isCIDR(string) bool | cidr.containsIP(ip) bool | cidr.containsIP(string) bool
cidr.containsCIDR(cidr) bool | cidr.containsCIDR(string) bool | cidr.ip() ip | cidr.masked() cidr
cidr.prefixLength() int
semver(string) semver | semver(string, bool) semver | isSemver(string) bool | isSemver(string, bool) bool
semver.major() int | semver.minor() int | semver.patch() int | semver.isLessThan(semver) bool
semver.isGreaterThan(semver) bool | semver.compareTo(semver) int
format.named(string) optional<format> | format.dns1123Label() format | format.dns1123Subdomain() format
format.dns1035Label() format | format.qualifiedName() format | format.dns1123LabelPrefix() format
format.dns1123SubdomainPrefix() format | format.dns1035LabelPrefix() format | format.labelValue() format
format.uri() format | format.uuid() format | format.byte() format | format.date() format | format.datetime() format
format.validate(string) optional<list<string>>
authorizer.path(string) pathcheck | authorizer.group(string) groupcheck
authorizer.serviceAccount(string, string) authorizer | groupcheck.resource(string) resourcecheck
resourcecheck.subresource(string) resourcecheck | resourcecheck.namespace(string) resourcecheck
resourcecheck.name(string) resourcecheck | resourcecheck.fieldSelector(string) resourcecheck
resourcecheck.labelSelector(string) resourcecheck | pathcheck.check(string) decision
resourcecheck.check(string) decision | decision.allowed() bool | decision.reason() string
decision.errored() bool | decision.error() string
jsonpatch.escapeKey(string) string
optional.of(A) optional<A> | optional.none() optional<dyn> | optional.ofNonZeroValue(A) optional<A>
optional<A>.hasValue() bool | optional<A>.value() A | optional<A>.or(optional<A>) optional<A>
optional<A>.orValue(A) A | optional.unwrap(list<optional<A>>) list<A> | list<optional<A>>.unwrapOpt() list<A>
";

pub struct Signature {
    /// Of the receiver first, where there is one.
    pub parameters: Vec<Ty>,
    pub result: Ty,
}

/// A function as it is called: `f(…)`, or `x.f(…)`.
type Name = (bool, String);

static SIGNATURES: LazyLock<HashMap<Name, Vec<Signature>>> = LazyLock::new(|| {
    let mut all: HashMap<Name, Vec<Signature>> = HashMap::new();
    for line in TABLE.lines().flat_map(|line| line.split('|')).map(str::trim).filter(|line| !line.is_empty()) {
        let open = line.find('(').expect("a signature has parameters");
        let close = line.rfind(')').expect("a signature ends its parameters");
        let (head, inside, result) = (&line[..open], &line[open + 1..close], line[close + 1..].trim());
        let library = head.split_once('.').is_some_and(|(first, _)| {
            // `ip.isCanonical` is a library's function, `ip.family` an address's; parameters tell which.
            LIBRARIES.contains(&first) && (!matches!(first, "ip" | "format" | "optional") || is_library_function(head))
        });
        let (receiver, name) = match head.rsplit_once('.') {
            Some((receiver, name)) if !library => (Some(receiver), name.to_owned()),
            _ => (None, head.to_owned()),
        };
        let mut parameters: Vec<Ty> = receiver.into_iter().map(ty).collect();
        parameters.extend(arguments(inside).into_iter().map(ty));
        let signature = Signature { parameters, result: ty(result) };
        all.entry((receiver.is_some(), name)).or_default().push(signature);
    }
    all
});

fn is_library_function(head: &str) -> bool {
    matches!(head, "ip.isCanonical" | "optional.of" | "optional.none" | "optional.ofNonZeroValue" | "optional.unwrap")
        || head.starts_with("format.") && head != "format.validate"
}

pub fn of(receiver: bool, name: &str) -> Option<&'static [Signature]> {
    SIGNATURES.get(&(receiver, name.to_owned())).map(Vec::as_slice)
}

/// Splits at commas that stand in no angle brackets.
fn arguments(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '<' => depth += 1,
            '>' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    parts.retain(|part| !part.is_empty());
    parts
}

fn ty(text: &str) -> Ty {
    if let Some((name, inside)) = text.split_once('<') {
        let inside = arguments(inside.strip_suffix('>').unwrap_or(inside));
        let inner = |index: usize| Arc::new(ty(inside[index]));
        return match name {
            "list" => Kind::List(inner(0)).into(),
            "map" => Kind::Map(inner(0), inner(1)).into(),
            _ => Kind::Optional(inner(0)).into(),
        };
    }
    match text {
        "int" => Kind::Int,
        "uint" => Kind::Uint,
        "double" => Kind::Double,
        "bool" => Kind::Bool,
        "string" => Kind::String,
        "bytes" => Kind::Bytes,
        "timestamp" => Kind::Timestamp,
        "duration" => Kind::Duration,
        "type" => Kind::Type,
        "quantity" => Kind::Opaque("kubernetes.Quantity"),
        "ip" => Kind::Opaque("net.IP"),
        "cidr" => Kind::Opaque("net.CIDR"),
        "url" => Kind::Opaque("kubernetes.URL"),
        "semver" => Kind::Opaque("kubernetes.Semver"),
        "format" => Kind::Opaque("kubernetes.NamedFormat"),
        "authorizer" => Kind::Opaque(Authorization::AUTHORIZER),
        "pathcheck" => Kind::Opaque(Authorization::PATH_CHECK),
        "groupcheck" => Kind::Opaque(Authorization::GROUP_CHECK),
        "resourcecheck" => Kind::Opaque(Authorization::RESOURCE_CHECK),
        "decision" => Kind::Opaque(Authorization::DECISION),
        "ORD" => Kind::Variable('<'),
        "A" => Kind::Variable('A'),
        "B" => Kind::Variable('B'),
        _ => Kind::Dyn,
    }
    .into()
}
