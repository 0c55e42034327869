//! The frames of WebSocket (RFC 6455 §5), read and written without I/O by the crate `tungstenite`. A mounted
//! application's bytes come and go through pipes (`edgerouter.websocket`).

use std::io::{self, Read, Write};

use bytes::{Buf as _, Bytes, BytesMut};
use parking_lot::Mutex;
use pyo3::{
    exceptions::{PyRuntimeError, PyValueError},
    prelude::*,
    types::{PyBytes, PyList},
};
use tungstenite::{
    Error, Message,
    protocol::{
        CloseFrame, Role, WebSocketConfig, WebSocketContext,
        frame::{Utf8Bytes, coding::CloseCode},
    },
};

/// Bytes of a frame that are read at a time.
const READ: usize = 4 << 10;

/// The server's side of a connection.
#[pyclass(frozen, module = "edgerouter._core")]
#[derive(Debug)]
pub(crate) struct WebSocketCodec(Mutex<Codec>);

#[derive(Debug)]
struct Codec {
    context: WebSocketContext,
    wire: Wire,
}

/// Bytes that have come and were not read, and bytes that are to be sent.
#[derive(Debug, Default)]
struct Wire {
    come: BytesMut,
    going: Vec<u8>,
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.come.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let room = buffer.len().min(self.come.len());
        self.come
            .copy_to_slice(buffer.get_mut(..room).unwrap_or_default());
        Ok(room)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.going.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The status code of a failure (RFC 6455 §7.4.1).
fn code_of(error: &Error) -> CloseCode {
    match error {
        Error::Capacity(_) => CloseCode::Size,
        Error::Utf8(_) => CloseCode::Invalid,
        _ => CloseCode::Protocol,
    }
}

/// A message of the client.
enum Arrived {
    Text(Utf8Bytes),
    Bytes(Bytes),
    Pong,
    Close(u16, String),
}

impl Codec {
    fn feed(&mut self, bytes: &[u8]) -> Vec<Arrived> {
        let mut arrived = Vec::new();
        self.wire.come.extend_from_slice(bytes);
        loop {
            arrived.push(match self.context.read(&mut self.wire) {
                Ok(Message::Text(text)) => Arrived::Text(text),
                Ok(Message::Binary(bytes)) => Arrived::Bytes(bytes),
                Ok(Message::Pong(_)) => Arrived::Pong,
                Ok(Message::Ping(_) | Message::Frame(_)) => continue,
                Ok(Message::Close(frame)) => {
                    let closed =
                        frame.map(|frame| (frame.code.into(), frame.reason.as_str().to_owned()));
                    let (code, reason) = closed.unwrap_or((1005, String::new()));
                    Arrived::Close(code, reason)
                }
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(Error::ConnectionClosed | Error::AlreadyClosed) => break,
                Err(error) => {
                    let code = code_of(&error);
                    self.close(code, "");
                    arrived.push(Arrived::Close(code.into(), error.to_string()));
                    break;
                }
            });
        }
        let _ = self.context.flush(&mut self.wire);
        arrived
    }

    fn send(&mut self, message: Message) -> PyResult<()> {
        self.context
            .write(&mut self.wire, message)
            .map_err(|error| PyRuntimeError::new_err(error.to_string()))
    }

    fn close(&mut self, code: CloseCode, reason: &str) {
        let reason = Utf8Bytes::from(reason);
        let _ = self
            .context
            .close(&mut self.wire, Some(CloseFrame { code, reason }));
    }
}

#[pymethods]
impl WebSocketCodec {
    /// `most`: the bytes of a message that a client may send.
    #[new]
    fn new(most: usize) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ)
            .write_buffer_size(0)
            .max_message_size(Some(most))
            .max_frame_size(Some(most));
        Self(Mutex::new(Codec {
            context: WebSocketContext::new(Role::Server, Some(config)),
            wire: Wire::default(),
        }))
    }

    /// Takes bytes of the client; the messages that they complete, as pairs: `("text", str)`, `("bytes", bytes)`,
    /// `("pong", None)`, and as the last one `("close", (code, reason))`. Pings are answered. A client that breaks the
    /// protocol is sent the status code for that, and a close of that code is what it counts as.
    fn feed<'py>(&self, py: Python<'py>, content: &[u8]) -> PyResult<Bound<'py, PyList>> {
        // Python objects are made without the lock.
        let arrived = self.0.lock().feed(content);
        let found = PyList::empty(py);
        for arrived in arrived {
            match arrived {
                Arrived::Text(text) => found.append(("text", text.as_str()))?,
                Arrived::Bytes(bytes) => found.append(("bytes", PyBytes::new(py, &bytes)))?,
                Arrived::Pong => found.append(("pong", py.None()))?,
                Arrived::Close(code, reason) => found.append(("close", (code, reason)))?,
            }
        }
        Ok(found)
    }

    /// A message of text. `RuntimeError` after a close.
    fn send_text(&self, message: &str) -> PyResult<()> {
        self.0.lock().send(Message::text(message))
    }

    /// A message of bytes.
    fn send_bytes(&self, message: Vec<u8>) -> PyResult<()> {
        self.0.lock().send(Message::binary(message))
    }

    /// A ping without content.
    fn ping(&self) -> PyResult<()> {
        self.0.lock().send(Message::Ping(Bytes::new()))
    }

    /// Begins the closing handshake.
    #[pyo3(signature = (code, reason=""))]
    fn close(&self, code: u16, reason: &str) -> PyResult<()> {
        let code_of = CloseCode::from(code);
        if !code_of.is_allowed() || reason.len() > 123 {
            return Err(PyValueError::new_err(format!(
                "{code} with a reason of {} bytes cannot be sent: codes are 1000 to 1003, 1007 to 1014 and 3000 to 4999, reasons have up to 123 bytes (RFC 6455 §7.4)",
                reason.len()
            )));
        }
        self.0.lock().close(code_of, reason);
        Ok(())
    }

    /// Takes the bytes that are to be sent.
    fn take<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        let going = std::mem::take(&mut self.0.lock().wire.going);
        PyBytes::new(py, &going)
    }

    /// The number of bytes that are to be sent.
    #[getter]
    fn waiting(&self) -> usize {
        self.0.lock().wire.going.len()
    }
}
