//! The first bytes of each stream, before any HTTP/2.
//!
//! ```text
//! dialer   →  "stoa" version class            6 bytes
//! listener →  version reason                  2 bytes; reason 0: go on, else a `Refused` number
//! ```
//!
//! The answer is what makes a dial definite: in TLS 1.3 a client's handshake is complete before the
//! listener has judged its certificate. After a refusal the listener reads no further.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::{Class, Refused};

/// What a stream of ours starts with.
const MAGIC: [u8; 4] = *b"stoa";
/// The version of what follows; another one is refused.
const VERSION: u8 = 1;
/// Bytes of a preamble.
const PREAMBLE_BYTES: usize = 6;

fn encode(class: Class) -> [u8; PREAMBLE_BYTES] {
    let [a, b, c, d] = MAGIC;
    [a, b, c, d, VERSION, class.byte()]
}

fn decode(bytes: [u8; PREAMBLE_BYTES]) -> Option<Class> {
    let [a, b, c, d, version, class] = bytes;
    if [a, b, c, d] != MAGIC || version != VERSION {
        return None;
    }
    Class::from_byte(class)
}

/// Sends the preamble and awaits the answer: the outer error is a broken stream.
pub(crate) async fn offer<S>(stream: &mut S, class: Class) -> io::Result<Result<(), Refused>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(&encode(class)).await?;
    stream.flush().await?;
    let mut answer = [0; 2];
    stream.read_exact(&mut answer).await?;
    match answer {
        [VERSION, 0] => Ok(Ok(())),
        [_, reason] => Ok(Err(Refused::from_byte(reason))),
    }
}

/// Reads the preamble: `None` when it is none of ours.
pub(crate) async fn read<S>(stream: &mut S) -> io::Result<Option<Class>>
where
    S: AsyncRead + Unpin,
{
    let mut bytes = [0; PREAMBLE_BYTES];
    stream.read_exact(&mut bytes).await?;
    Ok(decode(bytes))
}

/// Answers it.
pub(crate) async fn answer<S>(stream: &mut S, answer: Result<(), Refused>) -> io::Result<()>
where
    S: AsyncWrite + Unpin,
{
    let byte = answer.err().map_or(0, Refused::byte);
    stream.write_all(&[VERSION, byte]).await?;
    stream.flush().await
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_bytes_are_pinned() {
        assert_eq!(&encode(Class::Logs), b"stoa\x01\x03");
    }

    proptest! {
        #[test]
        fn only_what_was_encoded_decodes(bytes: [u8; PREAMBLE_BYTES], class in 0_u8..8) {
            if let Some(class) = decode(bytes) {
                prop_assert_eq!(encode(class), bytes);
            }
            let near = [b's', b't', b'o', b'a', VERSION, class];
            prop_assert_eq!(decode(near).map(encode), Class::from_byte(class).map(|_| near));
        }
    }

    #[tokio::test]
    async fn a_refusal_reaches_the_dialer() {
        for given in [Ok(()), Err(Refused::Revoked), Err(Refused::Draining)] {
            let (mut dialer, mut listener) = tokio::io::duplex(64);
            let (seen, class) = tokio::join!(offer(&mut dialer, Class::Metrics), async {
                let class = read(&mut listener).await.unwrap();
                answer(&mut listener, given).await.unwrap();
                class
            });
            assert_eq!((seen.unwrap(), class), (given, Some(Class::Metrics)));
        }
    }
}
