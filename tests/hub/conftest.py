"""A hub over the real rates and laws, with a handful of passages instead of 27,000."""

import pytest

from finllm_utils.config import HubConfig
from finllm_utils.corpora.laws import laws
from finllm_utils.corpora.rates import ecb_rates
from finllm_utils.hub.calculators import calculator_tools
from finllm_utils.hub.lookups import Sources, lookup_tools
from finllm_utils.hub.router import propose_call
from finllm_utils.hub.search import SearchIndex
from finllm_utils.hub.session import Hub
from finllm_utils.hub.statutes import LawBook

PASSAGES = {
    "7": "定期人寿保险到期后，可以续保，也可以转换为终身寿险。",
    "8": "租客保险赔偿火灾和盗窃造成的财产损失。",
    "9": "残疾保险在你不能工作时支付一部分收入。",
    "10": "Medicare 从 65 岁开始，补充计划另外购买。",
}


@pytest.fixture(scope="session")
def book():
    return LawBook(laws())


@pytest.fixture(scope="session")
def sources(book):
    cfg = HubConfig(min_search_score=1.0)
    index = SearchIndex(PASSAGES)
    return Sources(rates=ecb_rates(), laws=book, passages=index, cfg=cfg)


@pytest.fixture(scope="session")
def toolbox(sources):
    return calculator_tools() | lookup_tools(sources)


@pytest.fixture
def hub(toolbox, book):
    return Hub(tools=toolbox, propose=lambda question: propose_call(question, book))
