//! What the server promises, over real sockets.
