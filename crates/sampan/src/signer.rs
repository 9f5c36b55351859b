//! Certificates that are asked for through the API, signed with the cluster authority's key.
//!
//! Written field by field: the subject goes over as it was asked for, with as many organizations as it has.

use std::time::Duration;

use api::signing_request::Asked;
use jiff::Timestamp;
use rcgen::{KeyPair, SignatureAlgorithm, SigningKey as _};
use x509_parser::prelude::{FromDer as _, X509Certificate, X509CertificationRequest};
use yasna::models::{ObjectIdentifier, UTCTime};
use yasna::{DERWriter, DERWriterSeq, Tag};

use crate::pki::Authority;

/// Clocks that lag accept a fresh certificate.
const BACKDATE: Duration = Duration::from_secs(5 * 60);
/// One that holds for less ends when it was asked to, not earlier.
const SHORT: Duration = Duration::from_secs(8 * 60 * 60);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("parse {0}: {1}")]
    Parse(&'static str, String),
    #[error("verify the signature of the request: {0}")]
    Signature(String),
    #[error("unrecognized usage values: {0:?}")]
    Usages(Vec<String>),
    #[error("the authority's key is of a kind that signs no requests")]
    Key,
    #[error("make a serial number: {0}")]
    Serial(getrandom::Error),
    #[error("{0} cannot be written in a certificate")]
    Time(Timestamp),
    #[error("sign")]
    Sign(#[source] rcgen::Error),
}

impl control_controllers::Authority for Authority {
    fn sign(
        &self,
        asked: &Asked,
        usages: &[String],
        duration: Duration,
    ) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
        let der = sign(self.key(), &self.trust.der, asked, usages, duration, Timestamp::now())?;
        Ok(x509_pem(&der))
    }
}

pub fn x509_pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<String> =
        text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

fn sign(
    key: &KeyPair,
    ca: &[u8],
    asked: &Asked,
    usages: &[String],
    duration: Duration,
    now: Timestamp,
) -> Result<Vec<u8>, Error> {
    let (_, ca) = X509Certificate::from_der(ca).map_err(|error| Error::Parse("the authority", error.to_string()))?;
    let (_, request) = X509CertificationRequest::from_der(&asked.der)
        .map_err(|error| Error::Parse("the request", error.to_string()))?;
    request.verify_signature().map_err(|error| Error::Signature(error.to_string()))?;
    let usages = Usages::of(usages)?;
    let mut serial = [0; 16];
    getrandom::fill(&mut serial).map_err(Error::Serial)?;
    let not_before = now - BACKDATE;
    let not_after = if duration < SHORT { now + duration } else { not_before + duration };
    let end = Timestamp::from_second(ca.validity().not_after.timestamp()).unwrap_or(not_after);
    let validity = [utc(not_before)?, utc(not_after.min(end))?];
    let algorithm = algorithm(key.algorithm()).ok_or(Error::Key)?;
    let info = &request.certification_request_info;
    let to_be_signed = yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_tagged(Tag::context(0), |writer| writer.write_u8(2)); // version 3
            writer.next().write_bigint_bytes(&serial, true);
            writer.next().write_der(algorithm);
            writer.next().write_der(ca.subject().as_raw());
            writer.next().write_sequence(|writer| {
                for time in &validity {
                    writer.next().write_utctime(time);
                }
            });
            writer.next().write_der(info.subject.as_raw());
            writer.next().write_der(info.subject_pki.raw);
            writer.next().write_tagged(Tag::context(3), |writer| {
                writer.write_sequence(|writer| extensions(writer, &usages, &ca, asked));
            });
        });
    });
    let signature = key.sign(&to_be_signed).map_err(Error::Sign)?;
    Ok(yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_der(&to_be_signed);
            writer.next().write_der(algorithm);
            writer.next().write_bitvec_bytes(&signature, signature.len() * 8);
        });
    }))
}

fn utc(time: Timestamp) -> Result<UTCTime, Error> {
    UTCTime::parse(time.strftime("%y%m%d%H%M%SZ").to_string().as_bytes()).ok_or(Error::Time(time))
}

/// `AlgorithmIdentifier`, encoded, of the keys an authority may have.
fn algorithm(of: &'static SignatureAlgorithm) -> Option<&'static [u8]> {
    // Sequences of ecdsa-with-SHA256, ecdsa-with-SHA384, Ed25519, and sha256WithRSAEncryption with its null.
    const KNOWN: &[(&SignatureAlgorithm, &[u8])] = &[
        (&rcgen::PKCS_ECDSA_P256_SHA256, &[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]),
        (&rcgen::PKCS_ECDSA_P384_SHA384, &[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3]),
        (&rcgen::PKCS_ED25519, &[0x30, 5, 6, 3, 0x2b, 0x65, 0x70]),
        (&rcgen::PKCS_RSA_SHA256, &[0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 0x0b, 5, 0]),
    ];
    KNOWN.iter().find(|(known, _)| *known == of).map(|(_, encoded)| *encoded)
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Usages {
    /// Bit 0 of the extension is the highest of the first byte.
    bits: u16,
    purposes: Vec<&'static [u64]>,
}

const KEY_USAGES: &[(&str, u16)] = &[
    ("signing", 0),
    ("digital signature", 0),
    ("content commitment", 1),
    ("key encipherment", 2),
    ("data encipherment", 3),
    ("key agreement", 4),
    ("cert sign", 5),
    ("crl sign", 6),
    ("encipher only", 7),
    ("decipher only", 8),
];

const PURPOSES: &[(&str, &[u64])] = &[
    ("any", &[2, 5, 29, 37, 0]),
    ("server auth", &[1, 3, 6, 1, 5, 5, 7, 3, 1]),
    ("client auth", &[1, 3, 6, 1, 5, 5, 7, 3, 2]),
    ("code signing", &[1, 3, 6, 1, 5, 5, 7, 3, 3]),
    ("email protection", &[1, 3, 6, 1, 5, 5, 7, 3, 4]),
    ("s/mime", &[1, 3, 6, 1, 5, 5, 7, 3, 4]),
    ("ipsec end system", &[1, 3, 6, 1, 5, 5, 7, 3, 5]),
    ("ipsec tunnel", &[1, 3, 6, 1, 5, 5, 7, 3, 6]),
    ("ipsec user", &[1, 3, 6, 1, 5, 5, 7, 3, 7]),
    ("timestamping", &[1, 3, 6, 1, 5, 5, 7, 3, 8]),
    ("ocsp signing", &[1, 3, 6, 1, 5, 5, 7, 3, 9]),
    ("microsoft sgc", &[1, 3, 6, 1, 4, 1, 311, 10, 3, 3]),
    ("netscape sgc", &[2, 16, 840, 1, 113_730, 4, 1]),
];

impl Usages {
    fn of(names: &[String]) -> Result<Self, Error> {
        let (mut usages, mut unknown) = (Self::default(), Vec::new());
        for name in names {
            let bit = KEY_USAGES.iter().find(|(known, _)| known == name);
            let purpose = PURPOSES.iter().find(|(known, _)| known == name);
            match (bit, purpose) {
                (Some((_, bit)), _) => usages.bits |= 0x8000 >> bit,
                (None, Some((_, purpose))) if usages.purposes.contains(purpose) => {}
                (None, Some((_, purpose))) => usages.purposes.push(purpose),
                (None, None) => unknown.push(name.clone()),
            }
        }
        // In the order of the table, whatever that of the request.
        usages.purposes.sort_by_key(|purpose| PURPOSES.iter().position(|(_, known)| known == purpose));
        if unknown.is_empty() { Ok(usages) } else { Err(Error::Usages(unknown)) }
    }
}

fn extension(writer: &mut DERWriterSeq<'_>, id: &[u64], critical: bool, value: impl FnOnce(DERWriter<'_>)) {
    writer.next().write_sequence(|writer| {
        writer.next().write_oid(&ObjectIdentifier::from_slice(id));
        if critical {
            writer.next().write_bool(true);
        }
        writer.next().write_bytes(&yasna::construct_der(value));
    });
}

fn extensions(writer: &mut DERWriterSeq<'_>, usages: &Usages, ca: &X509Certificate<'_>, asked: &Asked) {
    if usages.bits != 0 {
        let length = 16 - usages.bits.trailing_zeros() as usize;
        let bytes = usages.bits.to_be_bytes();
        let value = &bytes[..length.div_ceil(8)];
        extension(writer, &[2, 5, 29, 15], true, |writer| writer.write_bitvec_bytes(value, length));
    }
    if !usages.purposes.is_empty() {
        extension(writer, &[2, 5, 29, 37], false, |writer| {
            writer.write_sequence(|writer| {
                for purpose in &usages.purposes {
                    writer.next().write_oid(&ObjectIdentifier::from_slice(purpose));
                }
            });
        });
    }
    // No authority of its own.
    extension(writer, &[2, 5, 29, 19], true, |writer| writer.write_sequence(|_| {}));
    let identifier = ca.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        x509_parser::extensions::ParsedExtension::SubjectKeyIdentifier(identifier) => Some(identifier.0),
        _ => None,
    });
    if let Some(identifier) = identifier {
        extension(writer, &[2, 5, 29, 35], false, |writer| {
            writer.write_sequence(|writer| {
                writer.next().write_tagged_implicit(Tag::context(0), |writer| writer.write_bytes(identifier));
            });
        });
    }
    let texts = [(1, &asked.emails), (2, &asked.dns_names), (6, &asked.uris)];
    if texts.iter().all(|(_, names)| names.is_empty()) && asked.ip_addresses.is_empty() {
        return;
    }
    extension(writer, &[2, 5, 29, 17], false, |writer| {
        writer.write_sequence(|writer| {
            for (tag, names) in texts {
                for name in names {
                    writer.next().write_tagged_implicit(Tag::context(tag), |writer| writer.write_ia5_string(name));
                }
            }
            for address in &asked.ip_addresses {
                writer.next().write_tagged_implicit(Tag::context(7), |writer| writer.write_bytes(address));
            }
        });
    });
}

#[cfg(test)]
mod tests {
    use control_controllers::Authority as _;
    use rcgen::{CertificateParams, DistinguishedName, DnType};
    use x509_parser::prelude::Pem;

    use super::*;

    fn asked(name: &str) -> Asked {
        let mut params = CertificateParams::new(vec!["a.example".to_owned(), "10.0.0.1".to_owned()]).expect("names");
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "devs");
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let request = params.serialize_request(&key).expect("a request").pem().expect("PEM");
        Asked::parse(request.as_bytes()).expect("a request")
    }

    fn authority() -> (tempfile::TempDir, Authority) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let authority = Authority::open(dir.path()).expect("made");
        (dir, authority)
    }

    #[test]
    fn a_signed_request_is_a_certificate_of_the_authority() {
        let (_dir, authority) = authority();
        let usages = ["digital signature", "client auth"].map(str::to_owned);
        let hour = Duration::from_secs(3600);
        let pem = authority.sign(&asked("jane"), &usages, hour).expect("signed");
        let block = Pem::iter_from_buffer(pem.as_bytes()).next().expect("a block").expect("PEM");
        let certificate = block.parse_x509().expect("a certificate");
        let (_, ca) = X509Certificate::from_der(&authority.trust.der).expect("the authority");
        certificate.verify_signature(Some(ca.public_key())).expect("signed by the authority");
        assert_eq!(certificate.subject().to_string(), "O=devs, CN=jane");
        assert_eq!(certificate.issuer().as_raw(), ca.subject().as_raw());
        assert!(!certificate.is_ca());
        let usage = certificate.key_usage().expect("readable").expect("there").value;
        assert!(usage.digital_signature() && !usage.key_encipherment());
        let purposes = certificate.extended_key_usage().expect("readable").expect("there").value;
        assert!(purposes.client_auth && !purposes.server_auth);
        let names = certificate.subject_alternative_name().expect("readable").expect("there").value;
        assert_eq!(names.general_names.len(), 2);
        let (from, to) = (certificate.validity().not_before, certificate.validity().not_after);
        assert_eq!(to.timestamp() - from.timestamp(), 3600 + 300, "a short one is not cut by what it is dated back");
    }

    #[test]
    fn bad_requests_are_not_signed() {
        let (_dir, authority) = authority();
        let mut request = asked("jane");
        let refused = authority.sign(&request, &["juggling".to_owned()], SHORT).expect_err("an unknown usage");
        assert_eq!(refused.to_string(), "unrecognized usage values: [\"juggling\"]");
        // Another key's signature.
        let last = request.der.len() - 1;
        request.der[last] ^= 1;
        assert!(authority.sign(&request, &[], SHORT).is_err());
        request.der.truncate(20);
        assert!(authority.sign(&request, &[], SHORT).is_err());
    }

    #[test]
    fn usages_become_bits_and_purposes() {
        let of = |names: &[&str]| Usages::of(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).ok();
        let (server, client): (&[u64], &[u64]) = (PURPOSES[1].1, PURPOSES[2].1);
        assert_eq!(of(&["client auth", "server auth"]), Some(Usages { bits: 0, purposes: vec![server, client] }));
        assert_eq!(of(&["decipher only", "signing"]), Some(Usages { bits: 0x8080, purposes: vec![] }));
        assert_eq!(of(&["s/mime", "email protection"]).map(|usages| usages.purposes.len()), Some(1));
        assert_eq!(of(&["other"]), None);
    }
}
