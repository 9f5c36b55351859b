//! The authorizers' answers to what expressions ask, for one request: each question is asked once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use machinery_apiserver::{Action, Attributes};
use machinery_cel::{Action as Asked, Decision, Question, ServiceAccount};
use machinery_registry::UserInfo;

use crate::authorization::Chain;

pub(crate) struct Asking {
    chain: Arc<Chain>,
    user: Arc<UserInfo>,
    answers: Mutex<BTreeMap<Question, Decision>>,
}

impl Asking {
    /// For a request of `user`.
    pub(crate) fn new(chain: Arc<Chain>, user: Arc<UserInfo>) -> Self {
        Self { chain, user, answers: Mutex::default() }
    }

    fn answers(&self) -> MutexGuard<'_, BTreeMap<Question, Decision>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn known(&self, question: &Question) -> Option<Decision> {
        self.answers().get(question).cloned()
    }

    /// Evaluates until there is no question left.
    pub(crate) async fn settled<T>(&self, run: impl Fn() -> Result<T, Box<Question>> + Send) -> T {
        loop {
            match run() {
                Ok(outcome) => return outcome,
                Err(question) => {
                    let decision = self.ask(&question).await;
                    self.answers().insert(*question, decision);
                }
            }
        }
    }

    async fn ask(&self, question: &Question) -> Decision {
        let account = question.account.as_ref().map(user);
        let user = account.as_ref().unwrap_or(&self.user);
        let action = match &question.action {
            Asked::Path(path) => Action::Path(path),
            Asked::Resource(check) => Action::Resource {
                group: &check.group,
                version: "*",
                resource: &check.resource,
                subresource: &check.subresource,
                namespace: &check.namespace,
                name: &check.name,
            },
        };
        let verdict = self.chain.decide(&Attributes { user, verb: &question.verb, action }).await;
        Decision { allowed: verdict.allowed, reason: verdict.reason, error: None }
    }
}

fn user(account: &ServiceAccount) -> UserInfo {
    let ServiceAccount { namespace, name } = account;
    UserInfo {
        name: format!("system:serviceaccount:{namespace}:{name}"),
        groups: vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")],
        ..UserInfo::default()
    }
}
