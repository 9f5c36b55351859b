//! What a certificate is asked for: the PEM of a CertificateSigningRequest, read once for those who approve and sign.

use x509_parser::prelude::{
    FromDer as _, GeneralName, ParsedCriAttribute, ParsedExtension, Pem, X509CertificationRequest,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    #[error("PEM block type must be CERTIFICATE REQUEST")]
    Pem,
    #[error("asn1: syntax error: not a certificate request")]
    Der,
}

/// Of the subject and the alternative names, what rules are about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    pub common_name: String,
    pub organizations: Vec<String>,
    pub dns_names: Vec<String>,
    /// As they are encoded: four or sixteen bytes.
    pub ip_addresses: Vec<Vec<u8>>,
    pub emails: Vec<String>,
    pub uris: Vec<String>,
    /// The request itself.
    pub der: Vec<u8>,
}

impl Asked {
    pub fn parse(pem: &[u8]) -> Result<Self, BadRequest> {
        let block = Pem::iter_from_buffer(pem).next().and_then(Result::ok);
        let block = block.filter(|block| block.label == "CERTIFICATE REQUEST").ok_or(BadRequest::Pem)?;
        let (_, request) = X509CertificationRequest::from_der(&block.contents).map_err(|_| BadRequest::Der)?;
        let subject = &request.certification_request_info.subject;
        let mut asked = Self {
            // The last one counts, as in Go.
            common_name: subject.iter_common_name().filter_map(|name| name.as_str().ok()).last().unwrap_or("").into(),
            organizations: subject
                .iter_organization()
                .filter_map(|name| name.as_str().ok())
                .map(str::to_owned)
                .collect(),
            der: block.contents.clone(),
            ..Self::default()
        };
        for attribute in request.certification_request_info.attributes() {
            let ParsedCriAttribute::ExtensionRequest(requested) = attribute.parsed_attribute() else { continue };
            for extension in &requested.extensions {
                let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() else { continue };
                for name in &names.general_names {
                    asked.take(name);
                }
            }
        }
        Ok(asked)
    }

    fn take(&mut self, name: &GeneralName<'_>) {
        match name {
            GeneralName::DNSName(name) => self.dns_names.push((*name).to_owned()),
            GeneralName::IPAddress(address) => self.ip_addresses.push(address.to_vec()),
            GeneralName::RFC822Name(name) => self.emails.push((*name).to_owned()),
            GeneralName::URI(name) => self.uris.push((*name).to_owned()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CN=system:node:a, O=system:nodes, O=others; DNS a.example, IP 10.0.0.1.
    const REQUEST: &str = "-----BEGIN CERTIFICATE REQUEST-----
MIIBKDCBzwIBADBAMRUwEwYDVQQKDAxzeXN0ZW06bm9kZXMxDzANBgNVBAoMBm90
aGVyczEWMBQGA1UEAwwNc3lzdGVtOm5vZGU6YTBZMBMGByqGSM49AgEGCCqGSM49
AwEHA0IABD+jPsBnjv3vumw/BDgexZc0RlLeJyEmQHMFar9dYRmuVp3OzNbSzqHr
mMZax5YwxTE9VjkjGMfkYDXbeCygheigLTArBgkqhkiG9w0BCQ4xHjAcMBoGA1Ud
EQQTMBGCCWEuZXhhbXBsZYcECgAAATAKBggqhkjOPQQDAgNIADBFAiEA0FUlqObr
tsYz/GRkh9f51jfeV51Z2XpGPiu9lZW8bhMCIFV5isd5nZENTWzPI8PMQAQwPMxj
APq1uxM9K3G/HPhr
-----END CERTIFICATE REQUEST-----
";

    #[test]
    fn what_is_asked_is_read() {
        let asked = Asked::parse(REQUEST.as_bytes()).expect("a request");
        assert_eq!(asked.common_name, "system:node:a");
        assert_eq!(asked.organizations, ["system:nodes", "others"]);
        assert_eq!(asked.dns_names, ["a.example"]);
        assert_eq!(asked.ip_addresses, [[10, 0, 0, 1]]);
        assert!(asked.emails.is_empty() && asked.uris.is_empty());
    }

    #[test]
    fn what_is_none_is_refused() {
        assert_eq!(Asked::parse(b""), Err(BadRequest::Pem));
        let other = REQUEST.replace("CERTIFICATE REQUEST", "CERTIFICATE");
        assert_eq!(Asked::parse(other.as_bytes()), Err(BadRequest::Pem));
        let cut = "-----BEGIN CERTIFICATE REQUEST-----\nMAAA\n-----END CERTIFICATE REQUEST-----\n";
        assert_eq!(Asked::parse(cut.as_bytes()), Err(BadRequest::Der));
    }
}
