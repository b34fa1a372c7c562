//! Sealing for persons: under the key of one, or under those of several at once.
//!
//! Not here: the keys and whose they are (`subjects`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use symbi_crypto::{NonceCounter, SealingKey, hkdf_sha256, hmac_sha256};
use symbi_types::{Label, LabelSet};
use zeroize::Zeroizing;

use super::{KEPT_MAX, KEY_BYTES, Opened, State, Subjects};
use crate::kernel::lock;

/// What stands before what is sealed for persons.
const MARK: &str = "subject:";

/// Seals for one set of persons, in this opening.
pub(super) struct Sealer {
    key: SealingKey,
    salt: [u8; 16],
    nonces: NonceCounter,
    digest_key: Zeroizing<[u8; KEY_BYTES]>,
}

/// The pseudonyms of a set of labels, sorted, with commas between them; none where it names no person.
fn persons(labels: &LabelSet) -> Option<String> {
    if labels.is_empty() {
        return None;
    }
    let mut all = String::new();
    for pseudonym in labels.iter().filter_map(Label::subject) {
        if !all.is_empty() {
            all.push(',');
        }
        all.push_str(pseudonym); // sorted, as the labels are
    }
    (!all.is_empty()).then_some(all)
}

impl Subjects {
    /// Seals for those whose data it is (ER1, ER2); none where the labels name nobody.
    pub(crate) fn seal(&self, labels: &LabelSet, plain: &[u8]) -> Option<String> {
        let persons = persons(labels)?;
        let mut state = lock(&self.state);
        let nothing = || format!("{MARK}{persons}:");
        let Some(sealer) = self.sealer(&mut state, &persons) else { return Some(nothing()) };
        let Ok(nonce) = sealer.nonces.next_nonce() else { return Some(nothing()) };
        let associated = [sealer.salt.as_slice(), persons.as_bytes()].concat();
        let mut whole = Vec::with_capacity(28 + plain.len() + 16);
        let mut sealed = plain.to_vec();
        if sealer.key.seal(nonce, &associated, &mut sealed).is_err() {
            return Some(nothing());
        }
        whole.extend_from_slice(&sealer.salt);
        whole.extend_from_slice(&nonce);
        whole.extend_from_slice(&sealed);
        Some(format!("{MARK}{persons}:{}", BASE64.encode(whole)))
    }

    /// A digest keyed by those whose data it is; none where the labels name nobody. Where a key is gone it is a number that
    /// nothing equals.
    pub(crate) fn digest(&self, labels: &LabelSet, parts: &[&[u8]]) -> Option<[u8; 32]> {
        let persons = persons(labels)?;
        let mut state = lock(&self.state);
        match self.sealer(&mut state, &persons) {
            Some(sealer) => Some(hmac_sha256(&sealer.digest_key, parts)),
            None => {
                let mut random = [0; 32];
                self.entropy.fill(&mut random);
                Some(random)
            }
        }
    }

    fn sealer<'a>(&self, state: &'a mut State, persons: &str) -> Option<&'a mut Sealer> {
        if !state.sealers.contains_key(persons) {
            let combined = self.combine(state, persons)?;
            let mut salt = [0u8; 16];
            self.entropy.fill(&mut salt);
            if state.sealers.len() >= KEPT_MAX {
                state.sealers.clear();
            }
            let sealer = Sealer {
                key: SealingKey::new(self.provider, seal_key(&combined, &salt)),
                salt,
                nonces: NonceCounter::new(),
                digest_key: Zeroizing::new(hkdf_sha256(&combined, b"", b"symbi/subject-digest/v1\0")),
            };
            state.sealers.insert(persons.to_owned(), sealer);
        }
        state.sealers.get_mut(persons)
    }

    /// The keys of all of them, one after the other (ER2).
    fn combine(&self, state: &mut State, persons: &str) -> Option<Zeroizing<Vec<u8>>> {
        let mut combined = Zeroizing::new(Vec::new());
        for pseudonym in persons.split(',') {
            combined.extend_from_slice(self.key_in(state, pseudonym)?.key.as_slice());
        }
        Some(combined)
    }

    /// Opens what was sealed for persons; none where it was not.
    pub(crate) fn open(&self, sealed: &str) -> Option<Opened> {
        let (persons, text) = sealed.strip_prefix(MARK)?.split_once(':')?;
        let combined = {
            let mut state = lock(&self.state);
            self.combine(&mut state, persons)
        };
        let Some(combined) = combined.filter(|_| !text.is_empty()) else { return Some(Opened::Erased) };
        let Ok(whole) = BASE64.decode(text) else { return Some(Opened::Foreign) };
        let Some((salt, rest)) = whole.split_first_chunk::<16>() else { return Some(Opened::Foreign) };
        let Some((nonce, cipher)) = rest.split_first_chunk::<12>() else { return Some(Opened::Foreign) };
        let associated = [salt.as_slice(), persons.as_bytes()].concat();
        let mut plain = cipher.to_vec();
        let key = SealingKey::new(self.provider, seal_key(&combined, salt));
        Some(match key.open(*nonce, &associated, &mut plain) {
            Ok(()) => Opened::Plain(plain),
            Err(_) => Opened::Foreign,
        })
    }
}

impl symbi_store::Vault for Subjects {
    fn seal(&self, labels: &LabelSet, plain: &[u8]) -> Option<String> {
        if self.can_seal(labels) { Self::seal(self, labels, plain) } else { None }
    }

    fn open(&self, sealed: &str) -> Option<Vec<u8>> {
        Self::open(self, sealed)?.plain()
    }

    fn digest(&self, labels: &LabelSet, bytes: &[u8]) -> Option<[u8; 32]> {
        if self.can_seal(labels) { Self::digest(self, labels, &[bytes]) } else { None }
    }

    fn blind(&self, word: &str) -> u64 {
        let digest = hmac_sha256(&self.blind_key, &[word.as_bytes()]);
        digest.first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
    }
}

fn seal_key(combined: &[u8], salt: &[u8]) -> [u8; KEY_BYTES] {
    hkdf_sha256(combined, salt, b"symbi/subject-seal/v1\0")
}
