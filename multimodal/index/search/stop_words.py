"""Function words by language: they carry little meaning in a query, and they tell the language of a text.

Written without accents, as terms are. The names of languages are those of Snowball.
"""

from __future__ import annotations

STOP_WORDS: dict[str, frozenset[str]] = {
    language: frozenset(words.split())
    for language, words in {
        "english": """
            a about after again all also am an and any are as at be because been before being between both but by can
            could did do does doing done down during each every few for from had has have having he her hers him his
            how i if in into is it its itself just many may me might mine more most much must my no nor not of off on
            once one onto or other our ours out over own same shall she should so some such than that the their theirs
            them then there these they this those through to too under until up upon us very was we were what when
            where which while who whom whose why will with within without would you your yours""",
        "german": """
            aber alle allem allen aller alles als also am an andere anderen auch auf aus bei beim bin bis bist da damit
            dann das dass dein deine dem den denn der des dich die dies diese diesem diesen dieser dieses dir doch dort
            du durch ein eine einem einen einer eines er es etwas euch euer fur gegen hab habe haben hat hatte hatten
            hier ich ihm ihn ihnen ihr ihre ihrem ihren ihrer im in ins ist ja jede jedem jeden jeder jedes kann kein
            keine keinen keiner konnen konnte man mein meine meinem meinen mich mir mit nach nicht nichts noch nun nur
            ob oder ohne sehr sein seine seinem seinen seiner seit sich sie sind so soll sollte uber um und uns unser
            unsere unter vom von vor wann war waren warum was weil welche welchem welchen welcher welches wenn wer
            werde werden wessen wie wieder wir wird wo wohin wurde wurden zu zum zur zwischen""",
        "french": """
            a afin ai alors apres as au aucun aussi autre aux avant avec avez avoir avons car ce cela ces cet cette
            ceux chaque chez comme comment d dans de depuis des donc dont du elle elles en encore entre es est et etait
            etaient ete etes etre eu eux fait font il ils j je jusqu l la le les leur leurs lors lui m ma mais me meme
            mes moi mon n ne ni nos notre nous on ont ou par parce pas pendant peu peut plus pour pourquoi qu quand que
            quel quelle quelles quels qui quoi s sa sans se ses si son sont sous sur t ta te tes toi ton tous tout
            toute toutes tres tu un une vers vos votre vous y""",
        "spanish": """
            a al algo algunos ante antes aquel asi aun aunque cada como con contra cual cuales cuando cuanto cuantos
            de del desde donde dos durante e el ella ellas ellos en entre era eran eres es esa esas ese eso esos esta
            estaba estan estar estas este esto estos fue fueron ha haber habia han has hasta hay he la las le les lo
            los mas me mi mis mucho muy nada ni no nos nosotros nuestra nuestro o os otra otro otros para pero poco por
            porque pues que quien quienes se ser si sin sobre son soy su sus tambien tanto te tiene tienen todo todos
            tu tus un una unas uno unos usted y ya yo""",
        "italian": """
            a ad agli ai al alla alle allo anche ancora aveva c che chi ci cioe come con contro cosa cui d da dagli dai
            dal dalla dalle dallo degli dei del della delle dello di dopo dove due e ed era erano essere fra fu gli ha
            hanno ho i il in io l la le lei li lo loro lui ma me mi mia mio molto ne negli nei nel nella nelle nello
            noi non nostra nostro o ogni per perche piu poco prima qual quale quali quando quanta quante quanti quanto
            quella quelle quelli quello questa queste questi questo se sei senza si sia siamo solo sono sopra sotto sta
            stata stato su sua sue sugli sui sul sulla sulle suo te ti tra tu tua tuo tutti tutto un una uno vi voi""",
        "portuguese": """
            a ao aos aquela aquele as ate cada com como da das de dela dele deles depois do dos e ela elas ele eles em
            entre era eram essa esse esta estao estar estas estava este estes eu foi foram ha isso isto ja la lhe lhes
            mais mas me mesmo meu meus minha muito na nao nas nem no nos nossa nosso num numa o onde os ou outra outro
            para pela pelas pelo pelos por porque qual quais quando quanto quantos que quem sao se sem ser seu seus so
            sobre sua suas tambem te tem tinha todo todos tu um uma umas uns voce voces""",
        "dutch": """
            aan al alles als altijd andere ben bij daar dan dat de der deze die dit doch doen door dus een en er ge
            geen haar had heb hebben heeft hem het hier hij hoe hoeveel hun iemand iets ik in is ja je jij jou jouw kan
            kon kunnen maar me meer men met mij mijn moet na naar niet niets nog nu of om omdat ons onze ook op over
            reeds te tegen toch toen tot u uit uw van veel voor waar waarom wanneer want waren was wat we welk welke
            werd wie wij worden wordt zal ze zelf zich zij zijn zo zonder zou""",
        "swedish": """
            alla allt att av blev bli blir de dem den denna deras dess dessa det detta dig din ditt du dar efter eller
            en er ett fran for ha hade han hans har henne hennes hon honom hur har i icke ingen inte ja jag kan kunde
            man med mellan men mig min mina mitt mot mycket nagon nagot nar ni nu och om oss pa sa sadan samma sedan
            sig sin sina sitt ska skulle som till under upp ut utan vad var vara varfor varit varje vars vem vi vid
            vilka vilken vilket ville over""",
        "danish": """
            af alle alt anden at blev blive bliver da de dem den denne der deres det dette dig din disse dog du efter
            eller en end er et for fra ham han hans har havde hende hendes her hos hun hvad hvem hvilken hvis hvor
            hvordan hvorfor hvornar i ikke ind ingen jeg jer kan kunne man mange med meget men mig min mine mit mod ned
            noget nogle nu nar og ogsa om op os over pa selv sig sin sine sit skal skulle som sadan til ud under var
            ved vi vil ville vor vaere vaeret""",
        "norwegian": """
            alle at av bare begge ble blei bli blir da de deg dem den denne der deres det dette di din disse du eller
            en er et ett etter for fordi fra ham han hans har hadde hennes henne her hun hva hvem hver hvilken hvis
            hvor hvordan hvorfor i ikke ingen inn ja jeg kan kom kunne man mange med meg meget mellom men mer min mitt
            mot nar noe noen nar og ogsa om opp oss over pa sa seg selv sin sine sitt skal skulle slik som til ut uten
            var vart ved vi vil ville vaere vaert""",
        "russian": """
            а без более бы был была были было быть в вам вас во вот все всего всех вы где да даже для до его ее если
            есть еще же за здесь и из или им их к как какая какие какой когда кого кто куда ли между меня мне много
            может мои мой мы на над надо нас не него нее нет ни них но ну о об однако он она они оно от очень по под
            после потому почему при про с сам свою себя сколько со так также такой там тебя тем то того тоже только том
            ты у уже хотя чего чем через что чтобы чье эта эти это этого этой этом этот я""",
    }.items()
}
