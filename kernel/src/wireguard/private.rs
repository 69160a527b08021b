//! Private keys: made here, given to the kernel, and shown to nobody.

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use towpath_net::transport::PublicKey;
use x25519_dalek::StaticSecret;
use zeroize::Zeroizing;

/// The private key of a WireGuard device (RFC 7748). Its memory is cleared when it is dropped, and it has no text but the
/// one that [`PrivateKey::reveal`] gives.
#[derive(Clone)]
pub struct PrivateKey {
    secret: StaticSecret,
    /// It is asked for again and again, and costs far more to find than to keep.
    public: PublicKey,
}

/// A text that is not a private key. It is not repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a private key: 32 bytes in base64, as `wg genkey` prints them")]
pub struct NotAPrivateKey;

impl PrivateKey {
    /// A new one, of the kernel's random numbers.
    pub fn generate() -> io::Result<Self> {
        let mut bytes = Zeroizing::new([0; 32]);
        let mut rest = &mut bytes[..];
        while !rest.is_empty() {
            match rustix::rand::getrandom(&mut *rest, rustix::rand::GetRandomFlags::empty()) {
                Ok(filled) => rest = rest.get_mut(filled..).unwrap_or_default(),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        // Set and cleared in every such key (RFC 7748, section 5), and so by the kernel.
        bytes[0] &= 0xf8;
        bytes[31] = bytes[31] & 0x7f | 0x40;
        Ok(Self::of(StaticSecret::from(*bytes)))
    }

    /// The key of a text as [`PrivateKey::reveal`] gives it.
    pub fn parse(text: &str) -> Result<Self, NotAPrivateKey> {
        let bytes = Zeroizing::new(STANDARD.decode(text).map_err(|_| NotAPrivateKey)?);
        let bytes = bytes.as_slice().first_chunk().filter(|_| bytes.len() == 32).ok_or(NotAPrivateKey)?;
        Ok(Self::of(StaticSecret::from(*bytes)))
    }

    fn of(secret: StaticSecret) -> Self {
        Self { public: PublicKey(x25519_dalek::PublicKey::from(&secret).to_bytes()), secret }
    }

    /// The key that belongs to it, which everybody may know.
    pub const fn public(&self) -> PublicKey {
        self.public
    }

    /// The key as text, in base64: for the file that keeps it, and nothing else.
    pub fn reveal(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(self.bytes().as_slice()))
    }

    /// The key itself, for the kernel.
    pub(super) fn bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.secret.to_bytes())
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey(of {})", self.public)
    }
}

/// Private keys by the public ones that belong to them: what is planned names keys by their public halves alone.
#[derive(Clone, Debug, Default)]
pub struct KeyRing(BTreeMap<PublicKey, PrivateKey>);

impl KeyRing {
    /// The private key of a public one.
    pub fn get(&self, public: &PublicKey) -> Option<&PrivateKey> {
        self.0.get(public)
    }
}

impl FromIterator<PrivateKey> for KeyRing {
    fn from_iter<I: IntoIterator<Item = PrivateKey>>(keys: I) -> Self {
        Self(keys.into_iter().map(|key| (key.public(), key)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_key_is_that_of_the_rfc() {
        // RFC 7748, section 5.2: the number 9 times the base point.
        let mut nine = [0; 32];
        nine[0] = 9;
        let text = PrivateKey::of(StaticSecret::from(nine)).public().to_string();
        assert_eq!(text, "QiyOemIn17yhNQs+K7cnn3iXuHu2hUt4PGDoAxGuMHk=");
    }

    #[test]
    fn a_key_survives_its_text_and_no_two_are_alike() {
        let (one, other) = (PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap());
        assert_ne!(one.public(), other.public());
        assert_eq!(PrivateKey::parse(&one.reveal()).unwrap().public(), one.public());
        for bad in ["", "AAAA", "?", &one.reveal()[1..], &format!("AAAA{}", *one.reveal())] {
            assert_eq!(PrivateKey::parse(bad).unwrap_err(), NotAPrivateKey, "{bad}");
        }
    }

    #[test]
    fn what_is_printed_of_a_key_does_not_tell_it() {
        let key = PrivateKey::generate().unwrap();
        let (secret, public) = (key.reveal(), key.public());
        let ring: KeyRing = [key.clone()].into_iter().collect();
        for printed in [format!("{key:?}"), format!("{key:#?}"), format!("{ring:?}"), NotAPrivateKey.to_string()] {
            assert!(!printed.contains(secret.as_str()), "{public}");
            let bytes = format!("{:?}", key.bytes().as_slice());
            assert!(!printed.contains(bytes.trim_matches(['[', ']'])), "{public}");
        }
        assert!(ring.get(&public).is_some());
    }
}
