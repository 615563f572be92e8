//! Keys and certificates of one control plane, and client certificates of its users. Pure but for the clock.
//!
//! The authority and the serving certificate come from rcgen. Client certificates and signing requests are put together
//! here: a user in several groups has several organisations, and rcgen's names hold one of each kind.

use std::time::Duration;

use anyhow::Result;
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PublicKeyData as _, SigningKey as _,
};

const AUTHORITY_NAME: &str = "wayleave-e2e";
const BACKDATED: Duration = Duration::from_secs(3600);
const VALID: Duration = Duration::from_secs(7 * 24 * 3600);

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const UTF8_STRING: u8 = 0x0c;
const UTC_TIME: u8 = 0x17;
const OBJECT_IDENTIFIER: u8 = 0x06;
const CONTEXT_0: u8 = 0xa0;
/// 2.5.4.3
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];
/// 2.5.4.10
const ORGANIZATION: [u8; 3] = [0x55, 0x04, 0x0a];
/// 1.2.840.10045.4.3.2, the algorithm of the keys that `KeyPair::generate` makes.
const ECDSA_WITH_SHA256: [u8; 8] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];

/// A private key and what belongs to it (a certificate, a request, a public key), both as PEM.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The private key, PKCS #8.
    pub key: String,
    /// The public part.
    pub public: String,
}

/// The certificate authority of one control plane.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority")
    }
}

impl Authority {
    /// Makes a new authority with a key of its own.
    pub fn generate() -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, AUTHORITY_NAME);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        Ok(Self {
            issuer: CertifiedIssuer::self_signed(params, KeyPair::generate()?)?,
        })
    }

    /// The authority's certificate and key as PEM.
    pub fn pair(&self) -> Pair {
        Pair {
            key: self.issuer.key().serialize_pem(),
            public: self.issuer.pem(),
        }
    }

    /// A serving certificate for these names and addresses.
    pub fn serving(&self, names: &[&str]) -> Result<Pair> {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, "kube-apiserver");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Pair {
            key: key.serialize_pem(),
            public: certificate.pem(),
        })
    }

    /// A client certificate for a user in these groups.
    pub fn client(&self, user: &str, groups: &[&str]) -> Result<Pair> {
        let key = KeyPair::generate()?;
        let now = Timestamp::now();
        let time = |at: Timestamp| der(UTC_TIME, &[at.strftime("%y%m%d%H%M%SZ").to_string().as_bytes()]);
        let to_be_signed = der(
            SEQUENCE,
            &[
                &der(CONTEXT_0, &[&der(INTEGER, &[&[2]])]),
                &der(INTEGER, &[&serial(&key)]),
                &signature_algorithm(),
                &name(AUTHORITY_NAME, &[]),
                &der(SEQUENCE, &[&time(now - BACKDATED), &time(now + VALID)]),
                &name(user, groups),
                &key.subject_public_key_info(),
            ],
        );
        let signed = signed(&to_be_signed, self.issuer.key())?;
        Ok(Pair {
            key: key.serialize_pem(),
            public: pem("CERTIFICATE", &signed),
        })
    }
}

/// A key for signing the tokens of ServiceAccounts.
pub fn signing_key() -> Result<Pair> {
    let key = KeyPair::generate()?;
    Ok(Pair {
        key: key.serialize_pem(),
        public: key.public_key_pem(),
    })
}

/// A request for a client certificate, to be signed by a cluster.
pub fn signing_request(user: &str, groups: &[&str]) -> Result<Pair> {
    let key = KeyPair::generate()?;
    let body = der(
        SEQUENCE,
        &[
            &der(INTEGER, &[&[0]]),
            &name(user, groups),
            &key.subject_public_key_info(),
            &der(CONTEXT_0, &[]),
        ],
    );
    let request = signed(&body, &key)?;
    Ok(Pair {
        key: key.serialize_pem(),
        public: pem("CERTIFICATE REQUEST", &request),
    })
}

fn signed(body: &[u8], key: &KeyPair) -> Result<Vec<u8>> {
    let signature = key.sign(body)?;
    Ok(der(
        SEQUENCE,
        &[body, &signature_algorithm(), &der(BIT_STRING, &[&[0], &signature])],
    ))
}

fn signature_algorithm() -> Vec<u8> {
    der(SEQUENCE, &[&der(OBJECT_IDENTIFIER, &[&ECDSA_WITH_SHA256])])
}

fn name(common_name: &str, organizations: &[&str]) -> Vec<u8> {
    let attribute = |kind: &[u8], value: &str| {
        let pair = [der(OBJECT_IDENTIFIER, &[kind]), der(UTF8_STRING, &[value.as_bytes()])].concat();
        der(SET, &[&der(SEQUENCE, &[&pair])])
    };
    let organizations = organizations.iter().flat_map(|group| attribute(&ORGANIZATION, group));
    let parts: Vec<u8> = organizations.chain(attribute(&COMMON_NAME, common_name)).collect();
    der(SEQUENCE, &[&parts])
}

/// Sixteen bytes of the public key: as random as the key, and a positive number.
fn serial(key: &KeyPair) -> Vec<u8> {
    let raw = key.public_key_raw();
    let mut serial = raw[raw.len() - 16..].to_vec();
    serial[0] = (serial[0] & 0x7f) | 0x40;
    serial
}

fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = vec![tag];
    if length < 0x80 {
        out.extend(length.to_be_bytes().last());
    } else {
        let bytes: Vec<u8> = length.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
        out.extend((bytes.len() | 0x80).to_be_bytes().last());
        out.extend(bytes);
    }
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out
}

fn pem(label: &str, der: &[u8]) -> String {
    let lines = base64(der).into_bytes();
    let body: Vec<String> = lines
        .chunks(64)
        .map(|line| String::from_utf8_lossy(line).into_owned())
        .collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", body.join("\n"))
}

/// Base64 as Kubernetes writes it.
pub fn base64(bytes: &[u8]) -> String {
    match serde_json::to_value(k8s_openapi::ByteString(bytes.to_vec())) {
        Ok(serde_json::Value::String(text)) => text,
        _ => unreachable!("bytes are always written as a string"),
    }
}
