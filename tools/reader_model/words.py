"""Words that the reader model's practice conversations are made of: things, actions, keys."""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


FIRST_NAMES = _words(
    """Ada Aisha Alan Amara Anders Anna Arun Astrid Ben Bianca Boris Carla Carmen Chen Clara
Daniel Dora Elena Emil Emma Erik Esther Fatima Felix Finn Gita Hana Hassan Helen Hugo Ines
Ivan Jana Jonas Julia Kofi Lars Lena Leo Lin Luca Maria Marta Max Mei Milan Mona Nadia
Nils Nora Olga Omar Otto Paul Petra Priya Rafael Rosa Samir Sara Simon Sofia Sven Tara
Theo Tomas Uma Vera Victor Wanda Yara Yusuf Zoe"""
)
SURNAMES = _words(
    """Abbott Acker Adeyemi Andersson Banks Bauer Becker Berg Bianchi Brandt Carver Castro
Chandra Clarke Costa Dahl Diaz Dubois Ekman Farkas Fischer Fontaine Garcia Gupta Hale
Hansen Hart Holm Huber Ibarra Ito Jansen Kaya Keller Khan Kim Klein Kovacs Lang Larsen
Lopez Marsh Meyer Moreau Nagy Nash Novak Okafor Olsen Park Patel Pereira Quinn Reed Rossi
Rowe Santos Sato Schmidt Silva Singh Stone Tanaka Torres Urban Vega Vogel Walsh Weber
Winter Wolf Wood York Zhang"""
)
PLACES = _words(
    """Aarhus Antwerp Basel Bergen Bilbao Bologna Bristol Cork Cracow Dresden Ghent Graz
Gothenburg Graz Haarlem Lille Linz Leeds Lyon Malmo Nantes Odense Oslo Porto Riga Seville
Tallinn Tampere Trieste Turin Utrecht Vilnius Zagreb Zurich"""
)
ADJECTIVES = _words(
    """annual big blue bright brown cheap clean cold daily dark deep dry early empty extra fast
final first flat fresh full global gold green grey heavy high hot joint large last late
light little local long low main market middle modern monthly narrow new next north old
open orange plain private public quick quiet red regional round second shared sharp short
silver simple slow small soft solid south special spare spring square steel strong summer
tall thin third top urban warm weekly white wide winter wooden yellow young"""
)
NOUNS = _words(
    """account address agent alarm album apartment appliance appointment archive article asset
badge bag basket battery bed bell belt bicycle bill boat book booking bottle box branch
bridge budget building bus cabin cable calendar call camera card cargo carpet carrier cart
case chair charge charger cheque city claim class client clinic clock coat collection
colour comment company contact container contract copy country coupon course crate credit
crew cup customer cycle deal delivery department deposit desk device dinner discount
doctor document door draft driver entry event exam expense factory fan farm fee ferry
field file film flat flight floor folder fridge fund garage garden gate gift glass group
guest guide hall heater holiday hotel house image insurance invoice item job journey
jacket key kitchen lab label lamp lane laptop lease lecture lesson letter library licence
line link list load loan location lock locker log machine map market meal medicine meeting
member memo menu message meter mirror model module mortgage mouse museum note notice
number office order organiser owner package page paint pair pallet paper parcel park part
partner pass passenger patient payee payment pen permit person phone photo picture pipe
plan plant plate player point policy pool port post price print prize product profile
project pump purchase quote radio rack rate recipe record refund reminder rent repair
report request reservation result return review ride ring road role room rope round route
rule sale sample school screen seat section sensor series service session sheet shelf ship
shipment shirt shoe shop show site size song sponsor staff stage station statement stock
store stream street student studio subject subscription survey switch table tag task taxi
team tenant tent test theatre ticket tool tour towel town toy track trade trailer train
transaction transfer trip truck tyre unit user van vehicle vendor venue video visit
visitor voucher wallet warehouse watch wheel window worker workshop zone"""
)
ACTIONS = _words(
    """accept activate add adjust approve archive assign block book cancel change charge check
clean close complete confirm copy deliver disable dispatch enable extend finish freeze
hide hold inspect invite join keep label lend lock mark move notify open order pack park
pause pay pin post print process publish rate release remind remove rename renew repair
replace report reschedule reserve reset restart return review schedule sell send share
ship sign start stop store submit suspend tag track transfer unlock update upgrade verify
withdraw"""
)
STATES = _words(
    """active approved archived blocked booked broken cancelled closed confirmed delayed
delivered done draft empty expired failed free full idle late locked lost new open overdue
packed paid paused pending planned ready rejected returned sent shipped sold started
stopped waiting"""
)
FINDERS = ("find", "get", "search", "show", "look_up", "read", "list", "fetch")

# Keys by what stands behind them; `{}` is the thing that a record is of.
KEYS = {
    "person": "name owner contact customer payee recipient guest driver author organiser holder "
    "sender assignee full_name agent manager tenant member person attendee",
    "title": "title subject name label description item product summary topic",
    "id": "id number code reference {}_id {} {}_number {}_code ref key",
    "other_id": "account order owner_id customer_id group_id parent_id room_id route contract "
    "project_id batch source target account_id item_id slot",
    "money": "amount price balance total fee cost limit budget rate value deposit tip charge",
    "count": "quantity count seats size weight length level speed percent pages minutes days "
    "number units priority floor age score distance temperature",
    "date": "date day due due_date start_date end_date created from_date until since",
    "time": "time start end starts_at opens closes at",
    "moment": "start end created_at updated_at when begins ends",
    "email": "email address contact_email to mail",
    "path": "path file folder location target source",
    "place": "city place destination origin town address location venue",
    "phone": "phone mobile number contact_phone",
    "state": "status state kind type mode category",
    "flag": "active paid confirmed locked open verified",
    "code": "sku model colour_code variant plate serial voucher code seat",
}

# How a request names a value, by kind; `{k}` is the key in words, `{v}` the value.
CUES = {
    "person": "for {v}|of {v}|to {v}|with {v}|{k} {v}|by {v}|from {v}|for {k} {v}|named {v}",
    "title": "called {v}|titled {v}|named {v}|for {v}|{k} {v}|'{v}'|with the {k} {v}|about {v}",
    "id": "{k} {v}|with {k} {v}|number {v}|{v}|reference {v}",
    "other_id": "{k} {v}|with {k} {v}|on {k} {v}|from {v}|to {v}|in {v}",
    "money": "of {v}|for {v}|{k} {v}|with a {k} of {v}|to {v}|at {v}|by {v}",
    "count": "{k} {v}|with {v} {k}|a {k} of {v}|to {v}|of {k} {v}|by {v}",
    "date": "on {v}|for {v}|dated {v}|{k} {v}|from {v}|until {v}|to {v}|by {v}",
    "time": "at {v}|{k} {v}|for {v}|to {v}|from {v}|until {v}",
    "moment": "at {v}|{k} {v}|to {v}|from {v}|on {v}",
    "email": "to {v}|with {k} {v}|at {v}|for {v}|{k} {v}",
    "path": "at {v}|in {v}|{k} {v}|to {v}|from {v}|{v}",
    "place": "in {v}|to {v}|from {v}|{k} {v}|at {v}|near {v}",
    "phone": "with {k} {v}|at {v}|{k} {v}|on {v}|to {v}",
    "state": "as {v}|{v}|with {k} {v}|to {v}|{k} {v}|that is {v}",
    "code": "{v}|{k} {v}|with {k} {v}|of {k} {v}|for {v}",
}
