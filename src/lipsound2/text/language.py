"""A language's two letters, as recognisers name it -> its three letters, as containers of video want it."""

_CODES = (
    "af afr,am amh,ar ara,as asm,az aze,ba bak,be bel,bg bul,bn ben,bo bod,br bre,bs bos,ca cat,cs ces,cy cym,da dan,"
    "de deu,el ell,en eng,es spa,et est,eu eus,fa fas,fi fin,fo fao,fr fra,gl glg,gu guj,ha hau,he heb,hi hin,hr hrv,"
    "ht hat,hu hun,hy hye,id ind,is isl,it ita,ja jpn,jv jav,jw jav,ka kat,kk kaz,km khm,kn kan,ko kor,la lat,lb ltz,"
    "ln lin,lo lao,lt lit,lv lav,mg mlg,mi mri,mk mkd,ml mal,mn mon,mr mar,ms msa,mt mlt,my mya,ne nep,nl nld,nn nno,"
    "no nor,oc oci,pa pan,pl pol,ps pus,pt por,ro ron,ru rus,sa san,sd snd,si sin,sk slk,sl slv,sn sna,so som,sq sqi,"
    "sr srp,su sun,sv swe,sw swa,ta tam,te tel,tg tgk,th tha,tk tuk,tl tgl,tr tur,tt tat,uk ukr,ur urd,uz uzb,vi vie,"
    "yi yid,yo yor,yue zho,zh zho"
)
_LONG = dict(pair.split() for pair in _CODES.split(","))
"""Languages of ISO 639-1 that recognisers write, and of ISO 639-2/T."""
UNKNOWN = "und"


def long_code(language: str) -> str:
    """Return three letters for two; what is no language that is known is undetermined.

    >>> long_code("en"), long_code("deu"), long_code("")
    ('eng', 'deu', 'und')
    """
    return _LONG.get(language, language if language in _LONG.values() else UNKNOWN)
