//! From a Go type expression to the shape of its JSON.

use std::fmt;

use anyhow::{Context, bail};

use super::facts::{Facts, TypeFacts};

/// What `base_meta::schema::Shape` says, with types still by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Scalar(&'static str),
    /// OpenAPI name.
    Object(String),
    List(Box<Shape>),
    Map(Box<Shape>),
}

/// The table's spelling.
impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scalar(name) => f.write_str(name),
            Self::Object(name) => write!(f, "@{}", name.strip_prefix("io.k8s.").unwrap_or(name)),
            Self::List(element) => write!(f, "[]{element}"),
            Self::Map(value) => write!(f, "{{}}{value}"),
        }
    }
}

/// A resolved type: its shape, Go's own text for it, and the values of an enumeration.
#[derive(Clone, Debug)]
pub(super) struct Resolved {
    pub(super) shape: Shape,
    pub(super) go: String,
    pub(super) values: Vec<String>,
}

const CORE: &str = "k8s.io.api.core.v1";
const META: &str = "k8s.io.apimachinery.pkg.apis.meta.v1";
const API_EXTENSIONS: &str = "k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.v1";

/// Types that encode themselves.
fn builtin(package: &str, name: &str) -> Option<&'static str> {
    Some(match (package, name) {
        (META, "Time") => "time",
        (META, "MicroTime") => "micro",
        (META, "Duration") => "duration",
        (META, "FieldsV1") => "any",
        (
            API_EXTENSIONS,
            "JSON" | "JSONSchemaPropsOrBool" | "JSONSchemaPropsOrArray" | "JSONSchemaPropsOrStringArray",
        ) => "any",
        ("k8s.io.apimachinery.pkg.api.resource", "Quantity" | "QuantityValue") => "quantity",
        ("k8s.io.apimachinery.pkg.util.intstr", "IntOrString") => "intstr",
        ("k8s.io.apimachinery.pkg.runtime", "RawExtension") => "any",
        _ => return None,
    })
}

pub(super) fn is_builtin(package: &str, name: &str) -> bool {
    builtin(package, name).is_some()
}

/// `k8s.io.api.apps.v1` and `Deployment` as OpenAPI names them.
pub(super) fn open_api_name(package: &str, name: &str) -> String {
    let path = package.strip_prefix("k8s.io.").unwrap_or(package).replace('_', "-");
    format!("io.k8s.{path}.{name}")
}

/// The package name Go prints before a type.
fn short(package: &str) -> &str {
    package.rsplit('.').next().unwrap_or(package)
}

/// The `v1` beside `…v1beta1`, which shares types with it.
fn sibling_v1(package: &str) -> Option<String> {
    let (group, version) = package.rsplit_once('.')?;
    (version != "v1").then(|| format!("{group}.v1"))
}

pub(super) struct Resolver<'a> {
    pub(super) facts: &'a Facts,
}

impl Resolver<'_> {
    fn lookup(&self, package: &str, name: &str) -> Option<&TypeFacts> {
        self.facts.packages.get(package)?.get(name)
    }

    /// Where `qualifier.name`, as written in `package`, is declared. The facts hold no import lists: a qualifier's
    /// usual meaning is tried first.
    fn declaring(&self, package: &str, qualifier: Option<&str>, name: &str) -> Option<String> {
        let candidates: Vec<String> = match qualifier {
            None => [Some(package.to_owned()), sibling_v1(package)].into_iter().flatten().collect(),
            Some("v1") => {
                [Some(CORE.to_owned()), sibling_v1(package), Some(META.to_owned())].into_iter().flatten().collect()
            }
            Some("corev1" | "apiv1") => vec![CORE.into(), "k8s.io.api.scheduling.v1".into()],
            Some("metav1") => vec![META.into()],
            Some("batchv1") => vec!["k8s.io.api.batch.v1".into()],
            Some("authenticationv1") => vec!["k8s.io.api.authentication.v1".into()],
            Some("authorizationv1") => vec!["k8s.io.api.authorization.v1".into()],
            Some("resource") => vec!["k8s.io.apimachinery.pkg.api.resource".into()],
            Some("intstr") => vec!["k8s.io.apimachinery.pkg.util.intstr".into()],
            Some("runtime") => vec!["k8s.io.apimachinery.pkg.runtime".into()],
            Some(_) => Vec::new(),
        };
        candidates.into_iter().find(|candidate| is_builtin(candidate, name) || self.lookup(candidate, name).is_some())
    }

    /// Resolves a Go expression without its outer pointer.
    pub(super) fn resolve(&self, package: &str, expression: &str) -> anyhow::Result<Resolved> {
        let expression = expression.trim_start_matches('*');
        let plain =
            |shape: &'static str, go: &str| Resolved { shape: Shape::Scalar(shape), go: go.into(), values: Vec::new() };
        if let Some(element) = expression.strip_prefix("[]") {
            if element == "byte" {
                return Ok(plain("bytes", "[]uint8"));
            }
            let element = self.resolve(package, element)?;
            let go = format!("[]{}", element.go);
            return Ok(Resolved { shape: Shape::List(Box::new(element.shape)), go, values: element.values });
        }
        if let Some(rest) = expression.strip_prefix("map[") {
            let (key, value) = rest.split_once(']').with_context(|| format!("{expression} is no map"))?;
            let key = self.resolve(package, key)?;
            let value = self.resolve(package, value)?;
            let go = format!("map[{}]{}", key.go, value.go);
            return Ok(Resolved { shape: Shape::Map(Box::new(value.shape)), go, values: Vec::new() });
        }
        match expression {
            "string" => return Ok(plain("string", "string")),
            "bool" => return Ok(plain("bool", "bool")),
            "int32" | "uint32" => return Ok(plain("int32", expression)),
            "int" | "int64" | "uint64" => return Ok(plain("int64", expression)),
            "float64" => return Ok(plain("float", "float64")),
            "types.UID" | "types.NodeName" => return Ok(plain("string", expression)),
            "time.Time" => return Ok(plain("time", "time.Time")),
            _ => {}
        }
        let (qualifier, name) = match expression.split_once('.') {
            Some((qualifier, name)) => (Some(qualifier), name),
            None => (None, expression),
        };
        let declared = self
            .declaring(package, qualifier, name)
            .with_context(|| format!("{expression} in {package} is declared nowhere in the facts"))?;
        let go = format!("{}.{name}", short(&declared));
        if let Some(shape) = builtin(&declared, name) {
            return Ok(plain(shape, &go));
        }
        let facts = self.lookup(&declared, name).with_context(|| format!("{declared}.{name} vanished"))?;
        match &facts.alias {
            Some(alias) if facts.openapi_type.is_none() => {
                let target = self.resolve(&declared, alias)?;
                let values = if facts.enum_marker { facts.values.clone() } else { target.values };
                Ok(Resolved { shape: target.shape, go, values })
            }
            _ => Ok(Resolved { shape: Shape::Object(open_api_name(&declared, name)), go, values: Vec::new() }),
        }
    }

    /// The fields of a structure and the package they are written in.
    pub(super) fn structure(&self, package: &str, expression: &str) -> anyhow::Result<(String, String, &TypeFacts)> {
        let expression = expression.trim_start_matches('*');
        let (qualifier, name) = match expression.split_once('.') {
            Some((qualifier, name)) => (Some(qualifier), name),
            None => (None, expression),
        };
        let declared = self
            .declaring(package, qualifier, name)
            .with_context(|| format!("{expression} in {package} is declared nowhere in the facts"))?;
        let facts = self.lookup(&declared, name).with_context(|| format!("{declared}.{name} has no facts"))?;
        if let Some(alias) = &facts.alias {
            return self.structure(&declared, alias);
        }
        if facts.fields.is_none() {
            bail!("{declared}.{name} is no structure");
        }
        Ok((declared, name.to_owned(), facts))
    }
}
