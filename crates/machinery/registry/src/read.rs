//! GET and LIST, from the cache: how fresh, which page, which objects.

use std::sync::Arc;

use base_meta::field::{Error as FieldError, Path};
use base_meta::{Gvk, Status};
use machinery_storage::cache::{At, Query};
use machinery_storage::{Error, Freshness, Object, Revision};

use crate::core::Core;
use crate::dialect::Dialect;
use crate::page::Token;
use crate::request::VersionMatch;
use crate::resource::List;
use crate::select::Filter;
use crate::{ListOptions, RequestContext, failure};

/// `None` for the empty string: no version was named.
pub(crate) fn parse_version(text: &str) -> Result<Option<Revision>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(|number| Some(Revision(number))).map_err(|_| {
        let error = FieldError::invalid(
            &Path::new("resourceVersion"),
            text,
            format!("strconv.ParseUint: parsing {text:?}: invalid syntax"),
        );
        Status::bad_request(error.to_string())
    })
}

fn freshness(version: Option<Revision>) -> Freshness {
    match version {
        None => Freshness::Latest,
        Some(Revision(0)) => Freshness::Any,
        Some(revision) => Freshness::NotOlderThan(revision),
    }
}

/// Option values that contradict each other, as upstream's validation of list options words them.
pub(crate) fn invalid_options(error: FieldError) -> Status {
    Status::invalid(&Gvk::of("meta.k8s.io", "v1", "ListOptions"), "", &[error])
}

pub(crate) fn forbidden_match(detail: &str) -> Status {
    invalid_options(FieldError::forbidden(&Path::new("resourceVersionMatch"), detail))
}

/// Which state a list that begins here is to show.
fn first_page(options: &ListOptions) -> Result<At, Status> {
    let version = parse_version(&options.resource_version)?;
    Ok(match (version, options.version_match) {
        (None, Some(_)) => {
            return Err(forbidden_match("resourceVersionMatch is forbidden unless resourceVersion is provided"));
        }
        (Some(Revision(0)), Some(VersionMatch::Exact)) => {
            return Err(forbidden_match("resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\""));
        }
        (Some(revision), Some(VersionMatch::Exact)) => At::Exact(revision),
        // The rule from before resourceVersionMatch: a limited list at a version shows exactly that version.
        (Some(revision), None) if options.limit > 0 && revision.0 > 0 => At::Exact(revision),
        (version, _) => At::Fresh(freshness(version)),
    })
}

impl Core {
    pub(crate) async fn get_one(
        &self,
        ctx: &RequestContext,
        name: &str,
        resource_version: &str,
    ) -> Result<Arc<Object>, Status> {
        let freshness = freshness(parse_version(resource_version)?);
        let key = self.key(ctx, name)?;
        self.find(&key, freshness).await?.ok_or_else(|| Status::not_found(&self.gvr, name))
    }

    /// The keys a list or watch is about: the collection's, or one namespace of it.
    pub(crate) fn range(&self, ctx: &RequestContext, filter: &Filter) -> String {
        let namespace = ctx.namespace.as_deref().or(filter.namespace());
        match namespace.filter(|namespace| self.def().namespaced() && !namespace.is_empty()) {
            Some(namespace) => format!("{}{namespace}/", self.prefix),
            None => self.prefix.clone(),
        }
    }

    /// The only key that can match, where the selectors and the path say so.
    pub(crate) fn only_key(&self, ctx: &RequestContext, filter: &Filter) -> Option<String> {
        let name = filter.name()?;
        let range = self.range(ctx, filter);
        (!self.def().namespaced() || range != self.prefix).then(|| format!("{range}{name}"))
    }

    /// Of stored objects, chosen by the dialect's fields.
    pub(crate) async fn list_page(
        &self,
        dialect: &Dialect,
        ctx: &RequestContext,
        options: &ListOptions,
    ) -> Result<List, Status> {
        let filter = Filter::new(dialect, options)?;
        let range = self.range(ctx, &filter);
        let token = match options.continue_token.as_str() {
            "" => None,
            text => Some(Token::parse(text)?),
        };
        let at = match &token {
            None => first_page(options)?,
            Some(_) if options.version_match.is_some() => {
                return Err(forbidden_match("resourceVersionMatch is forbidden when continue is provided"));
            }
            Some(_) if !matches!(options.resource_version.as_str(), "" | "0") => {
                return Err(Status::bad_request("specifying resource version is not allowed when using continue"));
            }
            Some(token) => token.revision().map_or(At::Fresh(Freshness::Latest), At::Exact),
        };
        if let (None, At::Fresh(freshness), Some(key)) = (&token, at, self.only_key(ctx, &filter)) {
            return self.list_one(&key, freshness, &filter).await;
        }

        let after = token.as_ref().map(|token| token.after(&range));
        let query = Query { prefix: &range, start_after: after.as_deref(), limit: options.limit, at };
        let page = match self.cache.list(query, |object| filter.matches(object)).await {
            Ok(page) => page,
            Err(Error::Compacted { asked, oldest }) => {
                tracing::debug!(%asked, %oldest, "a list asks for compacted history");
                let too_old = || Status::expired("The resourceVersion for the provided list is too old.");
                return Err(token.map_or_else(too_old, Token::expired));
            }
            Err(error) => return Err(failure::status(error)),
        };
        let continue_token = match page.items.last() {
            Some(last) if page.more => Token::new(Some(page.revision), &range, &last.key).encode(),
            _ => String::new(),
        };
        let remaining = page.remaining.filter(|_| page.more && filter.is_everything());
        Ok(List { items: page.items, revision: page.revision, continue_token, remaining })
    }

    /// A list that can hold one object at most is a look-up.
    async fn list_one(&self, key: &str, freshness: Freshness, filter: &Filter) -> Result<List, Status> {
        let revision = self.cache.wait(freshness).await.map_err(failure::status)?;
        let found = self.find(key, Freshness::NotOlderThan(revision)).await?;
        let items: Vec<_> = found.into_iter().filter(|object| filter.matches(object)).collect();
        let revision = items.first().map_or(revision, |object| object.revision.max(revision));
        Ok(List { items, revision, continue_token: String::new(), remaining: None })
    }
}
