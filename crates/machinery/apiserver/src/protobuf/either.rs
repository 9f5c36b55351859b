//! The three places of a JSON schema that JSON writes as one of two things and protobuf as a message of both.

/// What may stand there instead of a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Either {
    /// `items`: a list of schemas.
    List,
    /// `additionalProperties`: whether any may.
    Bool,
    /// `dependencies`: names of properties.
    Texts,
}

impl Either {
    pub(super) fn of(go_type: Option<&str>) -> Option<Self> {
        match go_type?.rsplit('.').next()? {
            "JSONSchemaPropsOrArray" => Some(Self::List),
            "JSONSchemaPropsOrBool" => Some(Self::Bool),
            "JSONSchemaDependencies" => Some(Self::Texts),
            _ => None,
        }
    }

    /// The number of the schema's field.
    pub(super) fn schema(self) -> u32 {
        if self == Self::Bool { 2 } else { 1 }
    }
}
