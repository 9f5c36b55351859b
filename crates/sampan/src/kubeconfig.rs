//! The admin's kubeconfig, which says where the API is and proves who asks.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::pki::Leaf;

/// `server` is the API's URL.
pub fn render(server: &str, ca_pem: &str, admin: &Leaf) -> String {
    let encode = |text: &str| STANDARD.encode(text);
    format!(
        "\
apiVersion: v1
kind: Config
clusters:
- name: sampan
  cluster:
    server: {server}
    certificate-authority-data: {}
users:
- name: admin
  user:
    client-certificate-data: {}
    client-key-data: {}
contexts:
- name: sampan
  context:
    cluster: sampan
    user: admin
current-context: sampan
",
        encode(ca_pem),
        encode(&admin.cert_pem),
        encode(&admin.key_pem),
    )
}
