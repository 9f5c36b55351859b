//! Who may approve what a signer is asked for, and sign in its name; and that nobody asks to be an administrator.

use std::sync::Arc;

use api::signing_request::Asked;
use base_meta::{Gvr, Status};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use machinery_apiserver::{Action, Attributes as Question};
use machinery_registry::{Admission, Attributes, Operation};
use serde_json::Value;

use super::{forbidden, is, text};
use crate::authorization::{Chain, MASTERS};

const GROUP: &str = "certificates.k8s.io";
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

/// CertificateApproval and CertificateSigning: a permission on the signer, beside that on the request.
pub(super) struct Signers {
    name: &'static str,
    subresource: &'static str,
    verb: &'static str,
    authorizers: Arc<Chain>,
}

impl Signers {
    pub(super) fn approval(authorizers: Arc<Chain>) -> Self {
        Self { name: "CertificateApproval", subresource: "approval", verb: "approve", authorizers }
    }

    pub(super) fn signing(authorizers: Arc<Chain>) -> Self {
        Self { name: "CertificateSigning", subresource: "status", verb: "sign", authorizers }
    }

    /// On this very signer, or on all of its domain.
    async fn may(&self, attributes: &Attributes<'_>, signer: &str) -> bool {
        let domain = signer.split('/').next().unwrap_or(signer);
        for name in [signer, &format!("{domain}/*")] {
            let action = Action::Resource {
                group: GROUP,
                version: "*",
                resource: "signers",
                subresource: "",
                namespace: "",
                name,
            };
            let question = Question { user: &attributes.ctx.user, verb: self.verb, action };
            if self.authorizers.decide(&question).await.allowed {
                return true;
            }
        }
        false
    }
}

#[async_trait::async_trait]
impl Admission for Signers {
    fn name(&self) -> &'static str {
        self.name
    }

    fn handles(&self, gvr: &Gvr, subresource: Option<&str>, operation: Operation) -> bool {
        is(gvr, GROUP, "certificatesigningrequests")
            && subresource == Some(self.subresource)
            && operation == Operation::Update
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Value>) -> Result<(), Status> {
        let (Some(new), Some(old)) = (object, attributes.old) else { return Ok(()) };
        let same = |pointer: &str| new.pointer(pointer) == old.pointer(pointer);
        if self.verb == "sign" && same("/status/certificate") && same("/status/conditions") {
            return Ok(());
        }
        let signer = text(old, "/spec/signerName");
        if self.may(attributes, signer).await {
            return Ok(());
        }
        let message = format!("user not permitted to {} requests with signerName {signer:?}", self.verb);
        Err(forbidden(attributes, object, &message))
    }
}

pub(super) struct CertificateSubjectRestriction;

#[async_trait::async_trait]
impl Admission for CertificateSubjectRestriction {
    fn name(&self) -> &'static str {
        "CertificateSubjectRestriction"
    }

    fn handles(&self, gvr: &Gvr, subresource: Option<&str>, operation: Operation) -> bool {
        is(gvr, GROUP, "certificatesigningrequests") && subresource.is_none() && operation == Operation::Create
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Value>) -> Result<(), Status> {
        let Some(request) = object.filter(|object| text(object, "/spec/signerName") == CLIENT_SIGNER) else {
            return Ok(());
        };
        let pem = BASE64_STANDARD.decode(text(request, "/spec/request")).unwrap_or_default();
        let problem = match Asked::parse(&pem) {
            Err(error) => Some(format!("failed to parse CSR: {error}")),
            Ok(asked) if asked.organizations.iter().any(|one| one == MASTERS) => {
                Some(format!("use of {CLIENT_SIGNER} signer with {MASTERS} group is not allowed"))
            }
            Ok(_) => None,
        };
        problem.map_or(Ok(()), |problem| Err(forbidden(attributes, object, &problem)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::Asked as Request;
    use super::*;

    fn request(organization: &str) -> String {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::OrganizationName, organization);
        let key = rcgen::KeyPair::generate().expect("a key");
        BASE64_STANDARD.encode(params.serialize_request(&key).expect("a request").pem().expect("PEM"))
    }

    fn csrs() -> Gvr {
        Gvr::of(GROUP, "v1", "certificatesigningrequests")
    }

    #[tokio::test]
    async fn nobody_asks_to_be_an_administrator() {
        let ask = |signer: &'static str, request: String| async move {
            let asked = Request::new(csrs(), "", "r", Operation::Create);
            let object = json!({"spec": {"signerName": signer, "request": request}});
            let done = CertificateSubjectRestriction.validate(&asked.attributes(None), Some(&object)).await;
            done.map_err(|status| status.message)
        };
        assert_eq!(ask(CLIENT_SIGNER, request("devs")).await, Ok(()));
        assert_eq!(ask("example.com/x", request(MASTERS)).await, Ok(()));
        assert_eq!(
            ask(CLIENT_SIGNER, request(MASTERS)).await.expect_err("refused"),
            "certificatesigningrequests.certificates.k8s.io \"r\" is forbidden: use of kubernetes.io/kube-apiserver-client \
             signer with system:masters group is not allowed"
        );
        assert!(ask(CLIENT_SIGNER, "x".into()).await.expect_err("refused").contains("failed to parse CSR"));
    }

    #[tokio::test]
    async fn a_signer_is_somebodys() {
        let authorizers = Arc::new(Chain::new(&Default::default(), &Arc::default()));
        let old = json!({"spec": {"signerName": "example.com/x"}});
        let signed = json!({"spec": {"signerName": "example.com/x"}, "status": {"certificate": "AAAA"}});
        let (approval, signing) = (Signers::approval(authorizers.clone()), Signers::signing(authorizers));
        for (plugin, verb) in [(&approval, "approve"), (&signing, "sign")] {
            assert!(plugin.handles(&csrs(), Some(plugin.subresource), Operation::Update));
            assert!(!plugin.handles(&csrs(), None, Operation::Update));
            let jane = Request::new(csrs(), "", "r", Operation::Update).by("jane", &["system:authenticated"]);
            let refused = plugin.validate(&jane.attributes(Some(&old)), Some(&signed)).await.expect_err("refused");
            assert_eq!(
                refused.message,
                format!(
                    "certificatesigningrequests.certificates.k8s.io \"r\" is forbidden: user not permitted to {verb} \
                     requests with signerName \"example.com/x\""
                )
            );
            let admin = Request::new(csrs(), "", "r", Operation::Update).by("admin", &[MASTERS]);
            assert_eq!(plugin.validate(&admin.attributes(Some(&old)), Some(&signed)).await, Ok(()));
        }
        let jane = Request::new(csrs(), "", "r", Operation::Update).by("jane", &[]);
        let labelled = signing.validate(&jane.attributes(Some(&old)), Some(&old)).await;
        assert_eq!(labelled, Ok(()), "nothing is signed");
    }
}
