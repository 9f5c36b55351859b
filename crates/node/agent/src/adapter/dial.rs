//! Connections to programs in a sandbox, made from inside its network namespace.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use base_sys::netns::NetNs;
use tokio::net::{TcpSocket, TcpStream};

use crate::seams::{SeamError, chain, words};

/// To `localhost:port`, which in a pod is IPv4's or IPv6's. Errors are in the words of containerd's port-forward.
pub(super) async fn localhost(netns: PathBuf, sandbox: &str, port: u16) -> Result<TcpStream, SeamError> {
    let subject = format!("{netns:?}");
    let failed =
        |cause: String| SeamError::new("failed to execute portforward in network namespace", subject.clone(), cause);
    // A socket belongs to the namespace that it was made in: only the making must happen there, on a thread of its own.
    let made =
        tokio::task::spawn_blocking(move || NetNs::open(&netns)?.run(|| (TcpSocket::new_v4(), TcpSocket::new_v6())));
    let made = made.await.map_err(|error| failed(error.to_string()))?;
    let (four, six) = made.map_err(|error| failed(chain(&error)))?;
    let first = match connect(four, SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await {
        Ok(stream) => return Ok(stream),
        Err(error) => error,
    };
    match connect(six, SocketAddr::from((Ipv6Addr::LOCALHOST, port))).await {
        Ok(stream) => Ok(stream),
        Err(second) => Err(failed(format!(
            "failed to connect to localhost:{port} inside namespace {sandbox:?}, IPv4: dial tcp4 127.0.0.1:{port}: {} \
             IPv6 dial tcp6 [::1]:{port}: {}",
            words(&first),
            words(&second)
        ))),
    }
}

async fn connect(socket: io::Result<TcpSocket>, address: SocketAddr) -> io::Result<TcpStream> {
    let stream = socket?.connect(address).await?;
    // What a client types must not wait for its next word.
    stream.set_nodelay(true)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::path::Path;

    use tokio::io::AsyncReadExt;

    use super::*;

    /// A namespace of a thread that waits, with its loopback up and a listener that greets.
    #[tokio::test]
    async fn programs_of_the_namespace_are_reached_and_others_are_not() {
        let host = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = host.local_addr().unwrap().port();
        let netns = NetNs::create().unwrap();
        let path = PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&netns.fd())));
        let down = localhost(path.clone(), "s", port).await.unwrap_err();
        let text = chain(&down);
        assert!(
            text.contains(&format!("failed to connect to localhost:{port} inside namespace \"s\", IPv4: ")),
            "{text}"
        );
        netns
            .run(|| base_sys::route::Route::open().unwrap().apply([base_sys::route::Request::link_up(1)]).unwrap())
            .unwrap();
        let refused = chain(&localhost(path.clone(), "s", port).await.unwrap_err());
        assert!(refused.contains(&format!("dial tcp4 127.0.0.1:{port}: connect: connection refused")), "{refused}");

        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = netns.run(|| TcpListener::bind(address).unwrap()).unwrap();
            let port = listener.local_addr().unwrap().port();
            std::thread::spawn(move || std::io::Write::write_all(&mut listener.accept().unwrap().0, b"hello"));
            let mut stream = localhost(path.clone(), "s", port).await.unwrap();
            let mut said = String::new();
            stream.read_to_string(&mut said).await.unwrap();
            assert_eq!(said, "hello");
        }
    }

    #[tokio::test]
    async fn a_namespace_that_is_gone_is_an_error_that_says_so() {
        let error = localhost(Path::new("/nonexistent").to_owned(), "s", 80).await.unwrap_err();
        let expected =
            "failed to execute portforward in network namespace \"/nonexistent\": open the network namespace";
        assert!(chain(&error).starts_with(expected), "{}", chain(&error));
    }
}
