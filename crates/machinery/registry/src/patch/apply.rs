//! PATCH with an applied configuration: merged into what is there, or created.

use base_meta::{Reason, Status};
use machinery_storage::Freshness;
use serde_json::Value;

use crate::codec::Stored;
use crate::core::Core;
use crate::dialect::Dialect;
use crate::ownership::{Applying, How, check_config, take_sent};
use crate::resource::Written;
use crate::update::{Origin, Part, RACES, Wanted};
use crate::{FieldValidation, RequestContext, UpdateOptions, yaml};

/// The configuration over whatever is stored.
struct Applied<'a> {
    core: &'a Core,
    dialect: &'a Dialect,
    ctx: &'a RequestContext,
    how: How<'a>,
    applying: Applying<'a>,
}

#[async_trait::async_trait]
impl Origin for Applied<'_> {
    async fn wanted(&mut self, stored: &Stored) -> Result<Wanted, Status> {
        let mut live = self.dialect.document(&stored.object).await?;
        take_sent(&mut live);
        let ledger = stored.ledger();
        let applied =
            self.core.apply_config(self.dialect, self.ctx, self.how, self.applying, Some((&live, &ledger)))?;
        let object = match applied.object {
            Some(object) => self.conform(object)?,
            None => live,
        };
        let object = self.dialect.written(object, Some(stored), self.applying.part).await?;
        Ok(Wanted { object, ledger: Some(applied.ledger) })
    }
}

impl Applied<'_> {
    /// The configuration follows the schema; this brings its texts to their form.
    fn conform(&self, object: Value) -> Result<Value, Status> {
        self.dialect.conform(self.ctx, object, FieldValidation::Ignore, |problem| Status::bad_request(problem))
    }
}

impl Core {
    #[allow(clippy::too_many_arguments)]
    pub(super) async fn apply_object(
        &self,
        dialect: &Dialect,
        ctx: &RequestContext,
        name: &str,
        part: Part,
        body: &[u8],
        how: How<'_>,
        options: &UpdateOptions,
    ) -> Result<Written, Status> {
        let config = read(ctx, body, options.field_validation)?;
        check_config(dialect, &config)?;
        let applying = Applying { config: &config, part, force: options.force };
        let mut applied = Applied { core: self, dialect, ctx, how, applying };
        let key = self.key(ctx, name)?;
        for _ in 0..RACES {
            let creates = part == Part::Whole && ctx.subresource.is_none();
            if !creates || self.find(&key, Freshness::Latest).await?.is_some() {
                return self.modify(ctx, name, part, how, &mut applied).await;
            }
            self.check_named(ctx, name, &config)?;
            if let Some(refusal) = &options.no_create {
                return Err((**refusal).clone());
            }
            let new = self.apply_config(dialect, ctx, how, applying, None)?;
            let object = applied.conform(new.object.unwrap_or_else(|| config.clone()))?;
            let object = dialect.written(object, None, part).await?;
            match self.insert(ctx, object, how, Some(new.ledger)).await {
                // Another was first: what it made is applied to.
                Err(status) if status.reason == Reason::AlreadyExists => {}
                answer => return answer,
            }
        }
        Err(Status::modified(&self.gvr, name))
    }

    /// Applies to the object what an applied Scale asks of it.
    pub(crate) async fn apply_scaled(
        &self,
        ctx: &RequestContext,
        name: &str,
        config: &Value,
        how: How<'_>,
        force: bool,
    ) -> Result<Written, Status> {
        let applying = Applying { config, part: Part::Whole, force };
        let mut applied = Applied { core: self, dialect: &self.dialect, ctx, how, applying };
        self.modify(ctx, name, Part::Whole, how, &mut applied).await
    }
}

/// A configuration is YAML, of which JSON is a part.
pub(crate) fn read(ctx: &RequestContext, body: &[u8], validation: FieldValidation) -> Result<Value, Status> {
    let undecodable = |problem: &dyn std::fmt::Display| Status::bad_request(format!("error decoding YAML: {problem}"));
    let config: Value = match serde_json::from_slice(body) {
        Ok(config) => config,
        Err(_) => yaml::from_slice(body).map_err(|error| undecodable(&error))?,
    };
    if !config.is_object() {
        return Err(undecodable(&"it is not an object"));
    }
    if validation == FieldValidation::Ignore {
        return Ok(config);
    }
    // The untyped form alone refuses a key that is set twice.
    if let Err(error) = serde_norway::from_slice::<serde_norway::Value>(body) {
        if validation == FieldValidation::Strict {
            return Err(Status::bad_request(format!("error strict decoding YAML: {error}")));
        }
        ctx.warnings.add(error.to_string());
    }
    Ok(config)
}
