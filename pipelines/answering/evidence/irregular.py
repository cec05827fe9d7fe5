"""Irregular forms of English verbs, which stems do not join: "sank" and "sink"."""

from __future__ import annotations

# base form: its past tense and participle
_FORMS = """
    bear: bore borne born; become: became; begin: began begun; bend: bent; bind: bound; bite: bit bitten;
    bleed: bled; blow: blew blown; break: broke broken; breed: bred; bring: brought; build: built; burn:
    burnt; buy: bought; catch: caught; choose: chose chosen; come: came; creep: crept; deal: dealt; dig: dug;
    draw: drew drawn; dream: dreamt; drink: drank drunk; drive: drove driven; eat: ate eaten; fall: fell
    fallen; feed: fed; feel: felt; fight: fought; find: found; fly: flew flown; forbid: forbade forbidden;
    forget: forgot forgotten; freeze: froze frozen; give: gave given; go: went gone; grind: ground; grow: grew
    grown; hang: hung; hear: heard; hide: hid hidden; hold: held; keep: kept; know: knew known; lay: laid;
    lead: led; lean: leant; learn: learnt; leave: left; lend: lent; lie: lay lain; light: lit; lose: lost;
    make: made; mean: meant; meet: met; pay: paid; ride: rode ridden; ring: rang rung; rise: rose risen; run:
    ran; see: saw seen; seek: sought; sell: sold; send: sent; shake: shook shaken; shine: shone; shoot: shot;
    show: shown; shrink: shrank shrunk; sing: sang sung; sink: sank sunk; sit: sat; sleep: slept; slide: slid;
    smell: smelt; sow: sown; speak: spoke spoken; spell: spelt; spend: spent; spill: spilt; spin: spun; spoil:
    spoilt; spring: sprang sprung; stand: stood; steal: stole stolen; stick: stuck; sting: stung; strike:
    struck; swear: swore sworn; sweep: swept; swim: swam swum; swing: swung; take: took taken; teach: taught;
    tear: tore torn; think: thought; throw: threw thrown; understand: understood; wake: woke woken; wear: wore
    worn; weave: wove woven; weep: wept; win: won; wind: wound; write: wrote written
"""
BASE_FORMS: dict[str, str] = {
    form: base.strip()
    for base, forms in (entry.split(":") for entry in _FORMS.split(";"))
    for form in forms.split()
    if form
    not in ("lay", "ground", "wound", "rose", "bore", "bound", "saw", "fell", "felt")  # other words as well
}
