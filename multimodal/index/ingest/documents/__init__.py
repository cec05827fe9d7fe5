"""Readers of documents: files whose text, or pages, are indexed part by part.

`kinds` recognises a document, and one module for each family of formats reads it into parts. A reader knows no space
and no index. Formats that are zip archives of XML are read here, with limits against archive bombs; PDF, XLSX, RTF and
source code in other languages than Python need the packages of the extra `documents`.
"""
