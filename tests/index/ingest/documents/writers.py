"""Documents made by the libraries that people make them with."""

from __future__ import annotations

import datetime
import email.message
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import docx
import openpyxl
import PIL.Image
import pptx
from reportlab.lib import pdfencrypt
from reportlab.pdfgen import canvas

FILES = Path(__file__).parent / "files"
A4 = (595, 842)


def pdf(path: Path, pages: Sequence[str], password: str | None = None) -> Path:
    """A page for each text; an empty text becomes a page with a red square."""
    encrypt = None if password is None else pdfencrypt.StandardEncryption(password)
    drawing = canvas.Canvas(str(path), pagesize=A4, encrypt=encrypt)
    for text in pages:
        if text:
            drawing.drawString(72, 700, text)
        else:
            drawing.setFillColorRGB(1, 0, 0)
            drawing.rect(0, 0, *A4, fill=1, stroke=0)
        drawing.showPage()
    drawing.save()
    return path


def word(
    path: Path, paragraphs: Sequence[str], cells: Sequence[Sequence[str]] = (), header: str = ""
) -> Path:
    document = docx.Document()
    for paragraph in paragraphs:
        document.add_paragraph(paragraph)
    if cells:
        table = document.add_table(len(cells), len(cells[0]))
        for row, texts in zip(table.rows, cells, strict=True):
            for cell, text in zip(row.cells, texts, strict=True):
                cell.text = text
    if header:
        document.sections[0].header.paragraphs[0].text = header
    document.save(str(path))
    return path


def slides(path: Path, titles: Sequence[str], notes: Mapping[int, str] | None = None) -> Path:
    deck = pptx.Presentation()
    for number, title in enumerate(titles, start=1):
        slide = deck.slides.add_slide(deck.slide_layouts[5])
        slide.shapes.title.text = title
        if notes and number in notes:
            slide.notes_slide.notes_text_frame.text = notes[number]
    deck.save(str(path))
    return path


def workbook(path: Path, sheets: Mapping[str, Sequence[Sequence[object]]]) -> Path:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for title, rows in sheets.items():
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(list(row))
    book.save(path)
    return path


def mail(path: Path, subject: str, body: str, files: Mapping[str, bytes] | None = None) -> Path:
    message = email.message.EmailMessage()
    message["Subject"], message["From"], message["To"] = subject, "ada@example.org", "bob@example.org"
    message.set_content(body)
    for name, content in (files or {}).items():
        message.add_attachment(content, maintype="application", subtype="octet-stream", filename=name)
    path.write_bytes(bytes(message))
    return path


def archive(path: Path, members: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in members.items():
            opened.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0)), content, zipfile.ZIP_DEFLATED)
    return path


def scan(path: Path, colour: tuple[int, int, int] = (0, 0, 255)) -> Path:
    """A PDF that holds an image and no text."""
    PIL.Image.new("RGB", (60, 80), colour).save(path, "PDF")
    return path


DAY = datetime.datetime(2026, 3, 1)
