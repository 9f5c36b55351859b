//! Who is calling, and whose token is this?

use std::sync::Arc;

use base_meta::Status;
use machinery_registry::RequestContext;
use serde_json::{Value, json};

use super::{Answering, user_info};
use crate::authentication::AUTHENTICATED;
use crate::tokens::{BootstrapTokens, ServiceAccountTokens};

/// SelfSubjectReview: who the server takes the caller for (`kubectl auth whoami`).
pub(super) struct WhoAmI;

#[async_trait::async_trait]
impl Answering for WhoAmI {
    async fn answer(&self, ctx: &RequestContext, mut asked: Value) -> Result<Value, Status> {
        asked["status"] = json!({"userInfo": user_info(&ctx.user)});
        Ok(asked)
    }
}

/// TokenReview: for parts of the cluster that are shown a token themselves.
pub(super) struct Token(pub(super) Arc<ServiceAccountTokens>, pub(super) Arc<BootstrapTokens>);

#[async_trait::async_trait]
impl Answering for Token {
    async fn answer(&self, _: &RequestContext, mut asked: Value) -> Result<Value, Status> {
        let token = asked["spec"]["token"].as_str().unwrap_or("").to_owned();
        if token.is_empty() {
            return Err(Status::bad_request("token is required for TokenReview in authentication"));
        }
        let audiences: Vec<String> = serde_json::from_value(asked["spec"]["audiences"].clone()).unwrap_or_default();
        // They name no audience: they are for this server, whatever it is asked for.
        if let Some(user) = self.1.verify(&token).await? {
            let mut user = user_info(&user);
            if let Some(groups) = user["groups"].as_array_mut() {
                groups.push(AUTHENTICATED.into());
            }
            asked["status"] = json!({"authenticated": true, "user": user});
            return Ok(asked);
        }
        asked["status"] = match self.0.verify(&token, &audiences).await {
            Ok((user, audiences)) => {
                json!({"authenticated": true, "user": user_info(&user), "audiences": audiences})
            }
            Err(error) => json!({"user": {}, "error": format!("[invalid bearer token, {error}]")}),
        };
        Ok(asked)
    }
}
