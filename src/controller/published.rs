//! Shell. The newest image, and those who must have seen it before anybody else does.
//!
//! Listeners (the replicas first of all) are shown an image before readers can load it and before the request that
//! made it is answered: a topic that a client can see can be produced to. A listener works on a blocking thread, one
//! image at a time, in order of versions, and may do I/O.

use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::image::MetadataImage;
use crate::error::StoreError;

/// What is called with every new image.
pub type Listener = Box<dyn FnMut(&Arc<MetadataImage>) + Send>;

/// An image on its way to a listener, and whom to tell that it was taken in.
type Shown = (Arc<MetadataImage>, oneshot::Sender<()>);

/// The newest image.
#[derive(Default)]
pub struct Published {
    image: ArcSwap<MetadataImage>,
    listeners: Mutex<Vec<mpsc::Sender<Shown>>>,
}

impl Published {
    /// The newest image that every listener has seen.
    pub fn load(&self) -> Arc<MetadataImage> {
        self.image.load_full()
    }

    /// Adds a listener. Returns when it has taken in the newest image.
    pub async fn listen(&self, listener: Listener) -> Result<(), StoreError> {
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(attend(listener, receiver));
        self.listeners.lock().push(sender.clone());
        show(&sender, self.load()).await
    }

    /// Shows an image to every listener, in the order in which they came, and then to all readers.
    pub async fn publish(&self, image: Arc<MetadataImage>) -> Result<(), StoreError> {
        let listeners = self.listeners.lock().clone();
        for listener in &listeners {
            show(listener, image.clone()).await?;
        }
        self.image.store(image);
        Ok(())
    }
}

async fn show(listener: &mpsc::Sender<Shown>, image: Arc<MetadataImage>) -> Result<(), StoreError> {
    let gone = || StoreError::new("a listener of the metadata image has stopped: metadata cannot change any more");
    let (done, taken) = oneshot::channel();
    listener.send((image, done)).await.map_err(|_| gone())?;
    taken.await.map_err(|_| gone())
}

/// A listener's task. It ends, and with it every later change of metadata, when the listener panics.
async fn attend(mut listener: Listener, mut images: mpsc::Receiver<Shown>) {
    let mut seen = None;
    while let Some((image, done)) = images.recv().await {
        if seen.is_none_or(|seen| seen < image.version) {
            seen = Some(image.version);
            let call = tokio::task::spawn_blocking(move || {
                listener(&image);
                listener
            });
            listener = match call.await {
                Ok(listener) => listener,
                Err(error) => {
                    tracing::error!("a listener of the metadata image failed: {error}");
                    return;
                }
            };
        }
        // Whoever showed the image may have stopped waiting.
        let _ = done.send(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(version: u64) -> Arc<MetadataImage> {
        Arc::new(MetadataImage { version, ..MetadataImage::default() })
    }

    #[tokio::test]
    async fn a_listener_sees_an_image_before_readers_do() {
        let published = Arc::new(Published::default());
        published.publish(image(4)).await.unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (reader, log) = (published.clone(), seen.clone());
        let listener = Box::new(move |image: &Arc<MetadataImage>| {
            log.lock().push((image.version, reader.load().version));
        });
        published.listen(listener).await.unwrap();
        published.publish(image(5)).await.unwrap();
        assert_eq!(*seen.lock(), [(4, 4), (5, 4)]);
        assert_eq!(published.load().version, 5);
    }

    #[tokio::test]
    async fn after_a_listener_panicked_nothing_is_published() {
        let published = Published::default();
        assert!(published.listen(Box::new(|_| panic!("as the claim wants"))).await.is_err());
        assert!(published.publish(image(1)).await.is_err());
        assert_eq!(published.load().version, 0);
    }
}
