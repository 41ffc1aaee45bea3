//! Shell. Producer ids, from blocks that the controller hands out and never hands out again.
//!
//! What is left of a block when the process ends is lost: ids are many, and reuse would let two producers share one.

use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::controller::Controller;
use crate::error::Refusal;
use crate::types::ProducerId;

/// The ids this broker may give out.
pub struct ProducerIds {
    controller: Arc<Controller>,
    block: Mutex<Range<i64>>,
    /// Held while a block is asked for, so that a burst of new producers asks for one block, not for one each.
    asking: tokio::sync::Mutex<()>,
}

impl ProducerIds {
    /// No block yet: the first producer asks for one.
    pub fn new(controller: &Arc<Controller>) -> Arc<Self> {
        Arc::new(Self {
            controller: Arc::clone(controller),
            block: Mutex::new(0..0),
            asking: tokio::sync::Mutex::new(()),
        })
    }

    /// An id, if the block has one left.
    pub fn take(&self) -> Option<ProducerId> {
        self.block.lock().next().map(ProducerId)
    }

    /// An id, after asking the controller for a block if need be.
    pub async fn next(&self) -> Result<ProducerId, Refusal> {
        loop {
            if let Some(id) = self.take() {
                return Ok(id);
            }
            let _asking = self.asking.lock().await;
            // Whoever asked before us may have left something.
            if let Some(id) = self.take() {
                return Ok(id);
            }
            let block = self.controller.allocate_producer_ids().await?;
            *self.block.lock() = block;
        }
    }
}
