//! What the runtime vouches for: these two keys are this agent's, from then until then.
//!
//! ```text
//!   0  agent 16 · signing key 32 (Ed25519) · agreement key 32 (X25519)
//!  80  not before µs 8 · not after µs 8 · serial 8     big-endian
//! 104  issuer's key id 16
//! 120  signature 64: Ed25519 of the runtime over "symbi/agent-cert/v1\0" ‖ all before
//! ```
//! Not here: when certificates are made, renewed and revoked (`authority`).
//!
//! Invariants
//! - CT1 a certificate holds for one agent and one pair of keys, under one runtime's key, in its time; nothing of it can
//!   be changed.

use symbi_crypto::{KeyId, PublicKey, SigningKey, VerifyingKey};
use symbi_types::AgentId;

use crate::open::SKEW_US_MAX;

const DOMAIN: &[u8; 20] = b"symbi/agent-cert/v1\0";
const BODY_BYTES: usize = 120;

/// Why a certificate is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Not the bytes of one.
    #[error("the bytes are no certificate")]
    Malformed,
    /// Not signed by this runtime.
    #[error("the certificate is not signed by this runtime")]
    Forged,
    /// Its time has not come, or is over.
    #[error("the certificate is not valid now")]
    NotNow,
    /// It was taken back.
    #[error("the certificate was revoked")]
    Revoked,
}

impl CertificateError {
    /// The stable code.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Malformed => "bus.certificate_malformed",
            Self::Forged => "bus.certificate_forged",
            Self::NotNow => "bus.certificate_expired",
            Self::Revoked => "bus.revoked",
        }
    }
}

/// The runtime's word for an agent's keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Whose keys they are.
    pub agent: AgentId,
    /// What its messages are verified with.
    pub signing: PublicKey,
    /// What keys are agreed with.
    pub agreement: [u8; 32],
    /// From when, in microseconds since the Unix epoch.
    pub not_before_us: u64,
    /// Until when, that moment included.
    pub not_after_us: u64,
    /// Its number, random.
    pub serial: u64,
    /// The runtime's key.
    pub issuer: KeyId,
    /// The runtime's signature.
    pub signature: [u8; 64],
}

impl Certificate {
    /// Bytes of one.
    pub const BYTES: usize = BODY_BYTES + 64;

    /// Signs one. `self.issuer` and `self.signature` of what is given do not matter.
    pub(crate) fn issue(mut self, authority: &SigningKey) -> Self {
        self.issuer = authority.key_id();
        self.signature = authority.sign(&self.statement());
        self
    }

    fn statement(&self) -> Vec<u8> {
        let parts: [&[u8]; 8] = [
            DOMAIN,
            self.agent.as_bytes(),
            &self.signing.0,
            &self.agreement,
            &self.not_before_us.to_be_bytes(),
            &self.not_after_us.to_be_bytes(),
            &self.serial.to_be_bytes(),
            &self.issuer.0,
        ];
        parts.concat()
    }

    /// As it travels.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.statement().split_off(DOMAIN.len());
        bytes.extend_from_slice(&self.signature);
        bytes
    }

    /// Reads one. Nothing in it is believed yet.
    ///
    /// # Errors
    /// [`CertificateError::Malformed`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CertificateError> {
        if bytes.len() != Self::BYTES {
            return Err(CertificateError::Malformed);
        }
        let mut reader = crate::header::Reader(bytes);
        let read = |reader: &mut crate::header::Reader<'_>| -> Result<Self, crate::Refusal> {
            let agent = AgentId::from_bytes(reader.array()?).ok_or(crate::Refusal::Malformed)?;
            let signing = PublicKey(reader.array()?);
            let agreement = reader.array()?;
            let [not_before_us, not_after_us, serial] =
                [reader.array()?, reader.array()?, reader.array()?].map(u64::from_be_bytes);
            let issuer = KeyId(reader.array()?);
            let signature = reader.array()?;
            Ok(Self { agent, signing, agreement, not_before_us, not_after_us, serial, issuer, signature })
        };
        read(&mut reader).map_err(|_| CertificateError::Malformed)
    }

    /// Whether its time is now, with the bounded skew of messages.
    pub(crate) const fn is_current(&self, now_us: u64) -> bool {
        self.not_before_us <= now_us.saturating_add(SKEW_US_MAX) && now_us <= self.not_after_us
    }

    /// Checks that a runtime vouches for these keys now (CT1). Whether it was revoked is the runtime's to say.
    ///
    /// # Errors
    /// [`CertificateError::Forged`], [`CertificateError::NotNow`].
    pub fn verify(&self, authority: &VerifyingKey, now_us: u64) -> Result<(), CertificateError> {
        if self.issuer != authority.key_id() || authority.verify(&self.statement(), &self.signature).is_err()
        {
            return Err(CertificateError::Forged);
        }
        if self.is_current(now_us) { Ok(()) } else { Err(CertificateError::NotNow) }
    }
}

#[cfg(test)]
mod tests {
    use symbi_crypto::Provider;
    use symbi_types::{Entropy as _, SystemEntropy};

    use super::*;

    fn authority(seed: u8) -> SigningKey {
        SigningKey::from_seed(Provider::AwsLc, &[seed; 32])
    }

    fn certificate() -> Certificate {
        let mut agreement = [0; 32];
        SystemEntropy.fill(&mut agreement);
        let blank = Certificate {
            agent: AgentId::random(&SystemEntropy),
            signing: authority(2).public(),
            agreement,
            not_before_us: 1_000_000_000,
            not_after_us: 2_000_000_000,
            serial: 7,
            issuer: KeyId([0; 16]),
            signature: [0; 64],
        };
        blank.issue(&authority(1))
    }

    #[test]
    fn ct1_any_changed_byte_of_a_certificate_is_refused() {
        let key = VerifyingKey::new(authority(1).public()).unwrap();
        let good = certificate();
        let bytes = good.to_bytes();
        assert_eq!(Certificate::from_bytes(&bytes), Ok(good.clone()));
        assert_eq!(good.verify(&key, 1_500_000_000), Ok(()));
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut bad = bytes.clone();
                bad[at] ^= 1 << bit;
                if let Ok(read) = Certificate::from_bytes(&bad) {
                    assert_eq!(read.verify(&key, 1_500_000_000), Err(CertificateError::Forged), "byte {at}");
                }
            }
            assert_eq!(Certificate::from_bytes(&bytes[..at]), Err(CertificateError::Malformed));
        }
        let other = VerifyingKey::new(authority(3).public()).unwrap();
        assert_eq!(good.verify(&other, 1_500_000_000), Err(CertificateError::Forged));
    }

    #[test]
    fn ct1_a_certificate_holds_in_its_time() {
        let key = VerifyingKey::new(authority(1).public()).unwrap();
        let good = certificate();
        let cases = [
            (1_000_000_000 - SKEW_US_MAX - 1, false),
            (1_000_000_000 - SKEW_US_MAX, true),
            (2_000_000_000, true),
            (2_000_000_001, false),
        ];
        for (now_us, holds) in cases {
            assert_eq!(good.verify(&key, now_us).is_ok(), holds, "{now_us}");
        }
    }
}
