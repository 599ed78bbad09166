"""Search for collections that comparing everything takes too long for: quick, not exact, and measured."""

from striate.app.quick_search.codes import SignCodes as SignCodes
from striate.app.quick_search.lists import InvertedLists as InvertedLists
from striate.app.quick_search.quick import Method as Method
from striate.app.quick_search.quick import Quick as Quick
from striate.app.quick_search.quick import quick_search as quick_search
