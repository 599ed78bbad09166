"""Pictures and pages drawn from records and arrays; no statistic is computed here."""

from striate.show.report import Figure as Figure
from striate.show.report import Report as Report
from striate.show.report import Section as Section
from striate.show.report import Table as Table
from striate.show.report import render as render
from striate.show.sheets import contact_sheet as contact_sheet
from striate.show.sheets import filter_sheet as filter_sheet
from striate.show.sheets import pair_sheet as pair_sheet
from striate.show.sheets import png_bytes as png_bytes
from striate.show.sheets import save_png as save_png
