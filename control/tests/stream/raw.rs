//! Callers that do as they please.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::Code;
use towpath_control::message::{FromAgent, Hello, Purpose, VERSION, write_from_agent};
use towpath_control::update::Holdings;

use crate::harness::{Operator, soon};

/// What is sent, and then nothing more, for ever.
pub struct Unending(Option<Bytes>);

impl Body for Unending {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.0.take() {
            Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            None => Poll::Pending,
        }
    }
}

/// A connection whose calls are made by hand.
pub struct Raw(SendRequest<Unending>, JoinHandle<hyper::Result<()>>);

/// Connects from an address.
pub async fn tcp(from: [u8; 4], to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    socket.connect(to).await
}

/// TLS for this application protocol.
pub async fn tls(operator: &Operator, protocol: &[u8]) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(operator.authorities.published().as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let stream = tcp([127, 0, 0, 1], operator.address).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("towpath-operator").unwrap(), stream).await
}

/// A message as gRPC frames it.
pub fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0], length.as_slice(), message].concat()
}

/// The message that begins a stream, as it is framed.
pub fn hello(node: &str) -> Vec<u8> {
    let hello = Hello {
        node: node.into(),
        version: VERSION,
        holdings: Holdings::default(),
        attached: Vec::new(),
        purpose: Purpose::Follow,
    };
    framed(&write_from_agent(&FromAgent::Hello(Box::new(hello))))
}

impl Raw {
    pub async fn connect(operator: &Operator) -> Self {
        let stream = tls(operator, b"h2").await.unwrap();
        let (send, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        Self(send, tokio::spawn(connection))
    }

    /// Calls a path with a token, sends some bytes, and leaves the call open.
    pub async fn send(&mut self, path: &str, token: &str, bytes: Vec<u8>) -> hyper::Result<http::Response<Incoming>> {
        let request = http::Request::post(format!("https://towpath-operator{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("authorization", format!("Bearer {token}"));
        soon(self.0.send_request(request.body(Unending(Some(bytes.into()))).unwrap())).await
    }

    /// How the call of an agent begins.
    pub async fn call(&mut self, token: &str, node: &str) -> Code {
        let response = self.send("/towpath.control.v1.Control/Follow", token, hello(node)).await.unwrap();
        response.headers().get("grpc-status").map_or(Code::Ok, |status| Code::from_bytes(status.as_bytes()))
    }

    /// Waits until the connection ends.
    pub async fn ended(self) {
        _ = soon(self.1).await.unwrap();
    }
}
