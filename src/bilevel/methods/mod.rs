//! The methods and their registry. Each file is one method, from its paper: settings with the published defaults, and a step that reads like
//! the algorithm. The settings that all share have the same names everywhere: `batch_size`, `outer_batch_size`, `inner_step_size`,
//! `outer_step_size`, and where a method has them `inner_steps`, `linear_steps` and `linear_step_size` (of the linear system H q = b).

mod aid_cg;
mod amigo;
mod bome;
mod bsa;
mod double_momentum;
mod exact;
mod f2sa;
mod fsla;
mod itd;
mod mrbo;
mod nhgd;
mod nhgd_pcg;
pub(crate) mod parts;
mod pzobo;
mod saba;
mod series;
mod soba;
mod srba;
mod stocbio;
mod sustain;
mod ttsa;
mod vrbo;

use serde::{Deserialize, Serialize};

pub use aid_cg::Config as AidCgConfig;
pub use amigo::Config as AmigoConfig;
pub use bome::Config as BomeConfig;
pub use bsa::Config as BsaConfig;
pub use exact::Config as ExactConfig;
pub use f2sa::Config as F2saConfig;
pub use fsla::Config as FslaConfig;
pub use itd::Config as ItdConfig;
pub use mrbo::Config as MrboConfig;
pub use nhgd::{Config as NhgdConfig, CurvatureRows, Start};
pub use nhgd_pcg::Config as NhgdPcgConfig;
pub use pzobo::Config as PzoboConfig;
pub use saba::Config as SabaConfig;
pub use soba::Config as SobaConfig;
pub use srba::Config as SrbaConfig;
pub use stocbio::Config as StocbioConfig;
pub use sustain::Config as SustainConfig;
pub use ttsa::Config as TtsaConfig;
pub use vrbo::Config as VrboConfig;

use super::{Method, Observer, Phase, State};
use crate::error::Result;

/// Declares the registry: for each method its variant, its module and its one-line description. A method is its settings.
macro_rules! methods {
    ($($variant:ident($module:ident): $about:literal;)*) => {
        /// The configuration of a method.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum MethodConfig {
            $(#[doc = $about] $variant($module::Config),)*
        }

        impl MethodConfig {
            /// Name and description of every method.
            pub const REGISTRY: &'static [(&'static str, &'static str)] = &[$(($module::NAME, $about)),*];

            /// The method's default settings.
            pub fn default_of(name: &str) -> Option<Self> {
                match name {
                    $($module::NAME => Some(Self::$variant($module::Config::default())),)*
                    _ => None,
                }
            }

            /// Checks the settings.
            ///
            /// # Errors
            /// [`Error::Argument`](crate::Error::Argument) that names the setting.
            pub fn validate(&self) -> Result<()> {
                match self { $(Self::$variant(config) => config.validate(),)* }
            }

            /// The method with these settings.
            ///
            /// # Errors
            /// As [`validate`](Self::validate).
            pub fn build(&self) -> Result<Box<dyn Method>> {
                self.validate()?;
                match self { $(Self::$variant(config) => Ok(Box::new(config.clone())),)* }
            }
        }
    };
}

methods! {
    Nhgd(nhgd): "natural hypergradient descent: an inverse Fisher sketch updated alongside the inner SGD";
    Exact(exact): "the same inner SGD with a dense Hessian solve at each outer step: the reference";
    NhgdPcg(nhgd_pcg): "NHGD whose sketch preconditions conjugate gradients on exact Hessian products";
    Soba(soba): "SOBA (Dagréou et al. 2022): v, θ and the linear system's variable change together, by SGD";
    Saba(saba): "SABA (Dagréou et al. 2022): SOBA with SAGA's tables of every sample's terms";
    Srba(srba): "SRBA (Dagréou et al. 2023): SOBA with recursive differences and periodic full passes (SARAH)";
    Amigo(amigo): "AmIGO (Arbel & Mairal 2022): SGD loops on θ and on a warm-started linear system";
    Stocbio(stocbio): "stocBiO (Ji et al. 2021): inner SGD, and Neumann's series with a fresh batch for each factor";
    Mrbo(mrbo): "MRBO (Yang et al. 2021): one loop with recursive momentum (STORM), Neumann's series";
    Vrbo(vrbo): "VRBO (Yang et al. 2021): recursive differences with periodic full passes (SPIDER), Neumann's series";
    Sustain(sustain): "SUSTAIN (Khanduri et al. 2021): one loop with double momentum, Neumann's series cut at random";
    Bsa(bsa): "BSA (Ghadimi & Wang 2018): inner SGD, then Neumann's series cut at random";
    Ttsa(ttsa): "TTSA (Hong et al. 2020): one inner step, Neumann's series cut at random, two time scales";
    Fsla(fsla): "FSLA (Li et al. 2022): one step each on θ and the linear system, momentum on v";
    F2sa(f2sa): "F2SA (Kwon et al. 2023): first-order, the inner problem as a growing penalty";
    Bome(bome): "BOME (Liu et al. 2022): first-order descent on f under a dynamic barrier for the inner problem";
    Pzobo(pzobo): "PZOBO (Sow et al. 2022): the inner loop's Jacobian from differences along Gaussian directions";
    AidCg(aid_cg): "AID-CG: inner SGD, then conjugate gradients on Hessian products, warm-started";
    Itd(itd): "ITD: backwards through the inner steps, all or the last few";
}
