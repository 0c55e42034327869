//! edgerouter-engine: the workers, the phases of a request, the admin listener and background work.
//!
//! Data flows `listen` → `request` → `cache` | `upstream` | `functions` → back, of which all but `request` are crates
//! of their own. The engine knows no Python and makes no HTTP decision of its own: the core decides what may be cached,
//! matched, trusted or retried.

mod admin;
mod background;
mod beats;
mod body;
mod clock;
mod counting;
mod deploys;
mod fetches;
mod identity;
mod inspect;
mod live;
mod navigation;
mod observed;
mod prefetch;
mod readings;
mod request;
mod server;
mod trial;
mod values;
mod watched;
mod worker;

use edgerouter_account as account;
use edgerouter_acme as acme;
use edgerouter_cache::{self as cache, purge};
use edgerouter_compress as compress;
use edgerouter_data as data;
use edgerouter_files as files;
use edgerouter_functions as functions;
use edgerouter_geo as geo;
use edgerouter_images as image_variants;
use edgerouter_listen::{self as listen, connection};
use edgerouter_origin as upstream;
use edgerouter_store as store;
use edgerouter_telemetry::{self as telemetry, life, secret};

pub use counting::CountsError;
pub use deploys::{DeployOrders, NewDeploy, NoDeploy};
pub use geo::{check as check_geo, unwatched as places};
pub use listen::{inherited::addresses as inherited_addresses, tls::development};
pub use server::{Engine, Settings, StartError, check_tls, default_capacity};
pub use telemetry::{access, log};
