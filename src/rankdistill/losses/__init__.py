"""How the student's scores are held against the teacher's: one file per loss.

A loss is a pure function of ``student``, ``teacher`` float (B, G), ``positive``, ``mask`` bool
(B, G), with ``mask`` True where a group has a document; it computes in float32 (float64 stays)
and returns a scalar. The module beside it holds its settings. A loss that needs more than these
four is a ``Loss``, which says what it ``reads`` and which ``columns`` of the table, or names it in the
signature of its ``forward`` (``value_of`` says what there is to name).
"""

from rankdistill.losses.adr_mse import ADRMSE, adr_mse
from rankdistill.losses.approx_ndcg import ApproxNDCG, approx_ndcg
from rankdistill.losses.base import Loss
from rankdistill.losses.bce import PointwiseBCE, pointwise_bce
from rankdistill.losses.bixse import BiXSE
from rankdistill.losses.decoupled import DecoupledKD, decoupled_kd
from rankdistill.losses.flops import FLOPS, flops
from rankdistill.losses.harmonic import Harmonic, harmonic
from rankdistill.losses.hidden_states import HiddenStates, hidden_states
from rankdistill.losses.infonce import InfoNCE, info_nce
from rankdistill.losses.joint import Joint, joint
from rankdistill.losses.kl import KLDivergence, kl_divergence
from rankdistill.losses.l1 import L1, l1
from rankdistill.losses.lambda_loss import LambdaLoss, lambda_loss
from rankdistill.losses.lambda_rank import LambdaRank, lambda_rank
from rankdistill.losses.layerwise import Layerwise, layerwise
from rankdistill.losses.mann_whitney import MannWhitney, mann_whitney
from rankdistill.losses.margin_mse import MarginMSE, margin_mse
from rankdistill.losses.mixed_negatives import MixedNegatives
from rankdistill.losses.multi_similarity import MultiSimilarity, multi_similarity
from rankdistill.losses.of_table import OfTable
from rankdistill.losses.pairwise import PairwisePreference, pairwise_preference
from rankdistill.losses.passage_centric import PassageCentric, passage_centric
from rankdistill.losses.plackett_luce import PlackettLuce, plackett_luce
from rankdistill.losses.ranknet import RankNet, rank_net
from rankdistill.losses.relations import Relations, relation_mse, relation_order
from rankdistill.losses.relevance_margin import RelevanceMargin, relevance_margin
from rankdistill.losses.token_alignment import TokenAlignment, token_alignment
from rankdistill.losses.weighted_sum import WeightedSum
from rankdistill.losses.z_loss import ZLoss, z_loss

__all__ = [
    "ADRMSE",
    "FLOPS",
    "L1",
    "ApproxNDCG",
    "BiXSE",
    "DecoupledKD",
    "Harmonic",
    "HiddenStates",
    "InfoNCE",
    "Joint",
    "KLDivergence",
    "LambdaLoss",
    "LambdaRank",
    "Layerwise",
    "Loss",
    "MannWhitney",
    "MarginMSE",
    "MixedNegatives",
    "MultiSimilarity",
    "OfTable",
    "PairwisePreference",
    "PassageCentric",
    "PlackettLuce",
    "PointwiseBCE",
    "RankNet",
    "Relations",
    "TokenAlignment",
    "RelevanceMargin",
    "WeightedSum",
    "ZLoss",
    "adr_mse",
    "approx_ndcg",
    "decoupled_kd",
    "flops",
    "harmonic",
    "hidden_states",
    "info_nce",
    "joint",
    "kl_divergence",
    "l1",
    "lambda_loss",
    "lambda_rank",
    "layerwise",
    "mann_whitney",
    "margin_mse",
    "multi_similarity",
    "pairwise_preference",
    "passage_centric",
    "plackett_luce",
    "pointwise_bce",
    "rank_net",
    "relation_mse",
    "relation_order",
    "relevance_margin",
    "token_alignment",
    "z_loss",
]
