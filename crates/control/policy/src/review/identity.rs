//! SelfSubjectReview: who the server takes the caller for (`kubectl auth whoami`).

use base_meta::Status;
use machinery_registry::RequestContext;
use serde_json::{Value, json};

use super::{Answering, user_info};

pub(super) struct WhoAmI;

#[async_trait::async_trait]
impl Answering for WhoAmI {
    async fn answer(&self, ctx: &RequestContext, mut asked: Value) -> Result<Value, Status> {
        asked["status"] = json!({"userInfo": user_info(&ctx.user)});
        Ok(asked)
    }
}
