//! Keys that are exchanged or taken back: an agent's, and the one that vouches for all.
//!
//! Why: a key that somebody else may have is worth nothing from then on, and that must not cost the others their messages.
//! Not here: making certificates (`authority`), who may do this (policy), where keys lie on disk (the kernel).
//!
//! Invariants
//! - AU4 after the runtime's key was exchanged every certificate that is handed out is of the new one; one of a former
//!   key holds if it was made before the exchange.

use std::sync::{Arc, PoisonError};

use symbi_crypto::{PublicKey, SignatureError, SigningKey, VerifyingKey};
use symbi_types::AgentId;

use crate::authority::Vouching;
use crate::{Bus, BusError, Certificate, CertificateError, Identity};

/// What both keys sign when one takes the other's place: this, both public keys, the moment in microseconds.
const DOMAIN: &[u8; 21] = b"symbi/message-key/v1\0";

/// The word of two keys that the second takes the place of the first.
#[derive(Clone, Debug)]
pub struct Endorsement {
    /// The key that vouches now.
    pub before: PublicKey,
    /// Its signature.
    pub by_before: [u8; 64],
    /// That of the key that will.
    pub by_after: [u8; 64],
}

impl Bus {
    /// Which library makes keys here.
    #[must_use]
    pub fn provider(&self) -> symbi_crypto::Provider {
        self.provider
    }

    /// Has the key that vouches now, and the one that is to take its place, say so.
    #[must_use]
    pub fn endorse(&self, next: &SigningKey, at_us: u64) -> Endorsement {
        let vouching = self.authority.vouching();
        let (before, after) = (vouching.key.public(), next.public());
        let parts: [&[u8]; 4] = [DOMAIN, &before.0, &after.0, &at_us.to_be_bytes()];
        let statement = parts.concat();
        Endorsement { before, by_before: vouching.key.sign(&statement), by_after: next.sign(&statement) }
    }

    /// Checks a certificate that came from somewhere: this runtime's, of now, not revoked (CT1, AU1, AU4).
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn verify_certificate(&self, certificate: &Certificate, now_us: u64) -> Result<(), CertificateError> {
        {
            let vouching = self.authority.vouching();
            let of_before = |(key, until_us): &&(VerifyingKey, u64)| {
                key.key_id() == certificate.issuer && certificate.not_before_us <= *until_us
            };
            let former = vouching.former.iter().find(of_before).map(|(key, _)| key);
            certificate.verify(former.unwrap_or(&vouching.verifying), now_us)?;
        }
        let revoked = self.authority.revoked.read().unwrap_or_else(PoisonError::into_inner);
        if revoked.contains(&certificate.signing.0) { Err(CertificateError::Revoked) } else { Ok(()) }
    }

    /// The certificates of all keys that were needed so far, and whether each was revoked; in no order.
    #[must_use]
    pub fn certificates(&self) -> Vec<(Certificate, bool)> {
        let endpoints: Vec<_> = self.all_endpoints();
        let shown = endpoints.iter().filter_map(|(_, endpoint)| {
            let credential = endpoint.credential();
            let signer = credential.as_ref()?.signer();
            Some((signer.certificate().clone(), signer.is_revoked()))
        });
        shown.collect()
    }

    /// Takes an agent's keys back, with every certificate of them: it sends nothing more, and what it has sent and nobody has read is refused.
    /// Answers the serial. [`Bus::rotate`] lets it speak again, with other keys.
    ///
    /// # Errors
    /// [`BusError::UnknownAgent`]; [`BusError::Revoked`] where it was revoked before.
    pub fn revoke(&self, agent: AgentId, now_us: u64) -> Result<u64, BusError> {
        let (_, credential) = self.party(agent, now_us)?;
        let key = credential.signing().public();
        self.authority.revoked.write().unwrap_or_else(PoisonError::into_inner).insert(key.0);
        credential.signer().revoke();
        Ok(credential.signer().serial())
    }

    /// Gives an agent other keys, and a certificate for them (AU2). Answers the certificate.
    ///
    /// # Errors
    /// [`BusError::UnknownAgent`].
    pub fn rotate(&self, agent: AgentId, now_us: u64) -> Result<Certificate, BusError> {
        let endpoint = self.endpoint(agent)?;
        let fresh = self.certify(agent, Identity::random(self.provider, &*self.entropy), now_us);
        let mut place = endpoint.credential_mut();
        self.authority.tell(&fresh);
        *place = Some(Arc::clone(&fresh));
        drop(place);
        Ok(fresh.signer().certificate().clone())
    }

    /// Exchanges the key that vouches (AU4): whoever has keys keeps them, under a new certificate; who was revoked stays so.
    /// What was sent before can still be opened. Answers how many certificates were made. Cost: 20 µs each.
    ///
    /// # Errors
    /// [`SignatureError`] for a key whose public half cannot be verified with, which no seed has.
    pub fn rotate_authority(&self, key: SigningKey, now_us: u64) -> Result<usize, SignatureError> {
        let verifying = VerifyingKey::new(key.public())?;
        {
            let mut vouching = self.authority.vouching_mut();
            let mut former = std::mem::take(&mut vouching.former);
            former.push((vouching.verifying.clone(), now_us));
            *vouching = Vouching { key, verifying, former };
        }
        let mut renewed = 0;
        // Whoever makes a certificate after the exchange makes it under the new key; the others are all in this list.
        for (agent, endpoint) in self.all_endpoints() {
            let mut place = endpoint.credential_mut();
            let Some(known) = place.as_ref().filter(|known| !known.signer().is_revoked()) else { continue };
            let identity = Arc::clone(known.identity());
            let fresh = Arc::new(self.authority.certify(agent, identity, &*self.entropy, now_us));
            self.authority.tell(&fresh);
            *place = Some(fresh);
            renewed += 1;
        }
        Ok(renewed)
    }
}
