"""Postal addresses: a road or estate with a door number, from its region to its room.

The core is a place with a number (文三路123号, 幸福小区3栋501); from there the address
is followed to the left to its region or to the word that announces it, and to the right
to the last unit. Works on the canonical text of ``pii_view``.
"""

import re
from collections.abc import Iterator

from finllm_utils.data.pii_places import PROVINCES, REGION

_HAN = "\u4e00-\u9fff"
_NUM = r"(?:[0-9]{1,5}[a-z]?|[a-z][0-9]{0,4}|[零〇一二三四五六七八九十百]{1,5}"
_NUM += r"|[甲乙丙丁东西南北])"
_UNIT = (
    "(?:号院|号楼|号|弄|栋|幢|座|单元|室|楼|层|房(?![屋产间])|门|村民小组|村民组|小组|"
    "组|社"
    "|队|期|区|院|阁|#楼?|户)"
)
_ROAD = "(?:大街|大道|[路街巷弄里道]|胡同|公路|北路|南路|环路|条|马路)"
_VILLAGE = "(?:[镇乡村屯寨]|嘎查|苏木|社区|街道|农场|林场|牧场)"
_ESTATE = (
    "(?:小区|花园|花苑|家园|公寓|大厦|大楼|广场|中心|新村|山庄|别墅|名苑|雅苑"
    "|嘉园|佳苑|[一二三四五六]期"
    "|[苑园城府湾庭居寓舍庐邸轩墅村庄屯寨坊里镇乡厦台院馆郡])"
)
_ROOMS = (
    rf"(?:(?:第?{_NUM}(?:[-/]{_NUM}){{0,3}} ?{_UNIT}(?!线|文|令|公告|店)"
    r"(?: ?之[一二三四五])?[ -]?)+"
    r"(?:[0-9]{1,2}-)?(?:[0-9]{3,4}(?![0-9元万]))?"
    r"|(?:[0-9]{1,3}-){1,3}[0-9]{1,4}(?![0-9年月日元-])|[a-z]座[0-9]{3,4}(?![0-9]))"
)
_BLOCK = (  # a building and a room in it need no word for the estate before them
    rf"(?:{_NUM} ?(?:栋|幢|座|号楼|#楼?) ?(?:{_NUM} ?(?:单元|门|座|梯|层|楼) ?)?"
    rf"(?:[0-9]{{1,2}}-)?(?:[0-9]{{3,4}}|{_NUM} ?(?=[室房])"
    rf"|{_NUM}{_NUM}(?=[室房]))[室房户]?)"
    r"(?![0-9会]|元|万|-[0-9])"
)
_MORE = (
    rf"(?: ?(?:[a-z0-9]{{1,12}}"
    rf" ){{0,2}}(?:(?![的了是至到由迁往])[{_HAN}a-z0-9]){{0,12}}?"
    rf" ?{_ROOMS}){{0,4}}"
)
CORE = re.compile(
    rf"(?:{_ROAD}|{_ESTATE}|{_VILLAGE}) ?"
    rf"(?:[东西南北中]?[一二三四五六七八九十]?段)?{_ROOMS}{_MORE}"
    rf"|(?<=[{_HAN}a-z0-9]) ?{_BLOCK}"
)
_CITY = re.compile(
    rf"[{_HAN}]{{2,6}}?(?:市|自治州|地区|盟)|[{_HAN}]{{1,6}}?(?:区|县|旗)(?!块"
    rf"|间|分|域)"
)
# What stands before an address and is no part of it.
_ANNOUNCE = re.compile(
    r"将(?!军|乐)|寄(?![宿存到往至给回])|地址|住址|住所地?|居住地|户籍地?|户籍所在地|"
    r"所在地|住在|居住在|现住|家住"
    r"|租住在?|搬到|搬至|搬家到|位于|坐落于?|坐落在"
    r"|寄到|寄往|寄至|寄给|寄回|送到|送至|送往|邮寄到?|发到|发往|快递到|送货到"
    r"|投递至|派送至|登记为|走访|外访|家访|下户|核实|核查|查访|实地到?|变更为"
    r"|更改为|修改为|改为|改成|更新为|约在|前往|来到|赶到|抵达|到达|房产|房屋"
    r"|房源|物业|名下|抵押物|门牌|上门"
    r"|拥有|购买|购得|租了|租的|租赁|出租|出售|居于|落户|住宅|住房|承租|回到"
    r"|老家|家在|人在|店在|开在|那边"
    r"|还有|迁[至到往]|[住在到至于由是从往为]|[^\u4e00-\u9fffa-z0-9 -]|[0-9]{5,} ?"
)
_PLACE = re.compile(
    r"(?:家住|住址|家庭地址|居住地址?|现住址?|收货地址|收件地址|联系地址"
    r"|通讯地址|户籍地址|地址)"
    rf"[为是在:]{{0,2}} ?"
    rf"(?P<value>(?:{PROVINCES})(?:(?![的了年过是])[{_HAN}0-9a-z·()#\- ]){{3,40}}"
    r"(?<=[路街巷弄道镇乡村区县市旗苑园城号室栋楼层组厦院寓邨里厅场]))"
)
_ENGLISH = re.compile(  # Room 501, 3号楼, 文三路8号, 西湖区, 杭州市
    r"(?:room|rm\.?|flat|unit|suite|apt\.?|no\.) ?[0-9]{1,4}[a-z]?"
    rf"(?:, ?[{_HAN}a-z0-9 #.\-]{{1,30}}?(?=,|$|[^{_HAN}a-z0-9 #.\-]|"
    rf"[市省区县](?![,市省区县]))"
    r"[市省区县]?){1,6}"
)
_LONGEST = 44


def find_addresses(text: str) -> Iterator[tuple[int, int]]:
    """(begin, end) of addresses, left to right; two readings of one may overlap."""
    for match in _ENGLISH.finditer(text):
        if _CITY.search(match.group()) or "号" in match.group():
            yield match.span()
    for match in CORE.finditer(text):
        begin, announced = _begin(text, match.start())
        head = text[begin : match.start()]
        if len(head) < 1 or not (announced or _is_placed(head, match.group())):
            continue
        yield begin, begin + len(text[begin : match.end()].rstrip(" -"))
    for match in _PLACE.finditer(text):
        value = match.group("value")
        if _CITY.search(value):
            yield match.start("value"), match.start("value") + len(value.rstrip())


def _begin(text: str, core: int) -> tuple[int, bool]:
    """Where the address around ``core`` begins, and whether words announce it."""
    left = max(0, core - _LONGEST)
    stretch = text[left:core]
    announced, begin = False, 0
    for match in _ANNOUNCE.finditer(stretch):
        if match.end() < len(stretch):
            begin = match.end()
            announced = bool(re.match(rf"住|[{_HAN}]{{2}}", match.group()))
    if region := _first_region(stretch, text[core : core + 2]):
        begin, announced = region - 1, True
    elif (space := _after_words(stretch, begin)) > begin:
        begin = space
    while begin < len(stretch) and stretch[begin] in " -()为是":
        begin += 1
    return left + begin, announced


def _after_words(stretch: str, begin: int) -> int:
    place = begin
    for word in re.finditer("[^ ]+", stretch[begin:]):
        place = begin + word.start()
        if _LEVEL.fullmatch(word.group()):
            break
    return place


_LEVEL = re.compile(rf"[{_HAN}]{{1,10}}[省市区县旗盟州镇乡村道]")


def _first_region(stretch: str, core: str) -> int:
    """One more than where the first region before nothing but places is, or 0."""
    for match in _REGION.finditer(stretch + core):
        if match.start() >= len(stretch):
            break
        if not re.search(
            "[^\u4e00-\u9fffa-z0-9 ·-]|[的了是]|[0-9]{5}", stretch[match.start() :]
        ):
            return match.start() + 1
    return 0


_REGION = re.compile(REGION)


def _is_placed(head: str, core: str) -> bool:
    """Whether an unannounced core is an address: a region, or a road with a number."""
    if _REGION.search(head) or _CITY.search(head):
        return True
    if head.endswith("一带一"):
        return False
    return bool(_ROAD_AND_DOOR.match(core) or _ESTATE_AND_ROOM.match(core))


_ROAD_AND_DOOR = re.compile("(?:大街|大道|路|街|巷|弄|胡同).*号")
_ESTATE_AND_ROOM = re.compile(
    rf"{_ESTATE}.*(?:[栋幢座楼].*[0-9一二三四五六七八九十]|[0-9]-[0-9]+-)| ?{_BLOCK}"
)
