package regex

// The short names of scripts that package unicode does not know, as
// " alias:name" each, from the Unicode property value aliases.
const scriptAliases = " adlm:Adlam aghb:Caucasian_Albanian arab:Arabic armi:Imperial_Aramaic armn:Armenian avst:Avestan" +
	" bali:Balinese bamu:Bamum bass:Bassa_Vah batk:Batak beng:Bengali bhks:Bhaiksuki bopo:Bopomofo" +
	" brah:Brahmi brai:Braille bugi:Buginese buhd:Buhid cakm:Chakma cans:Canadian_Aboriginal cari:Carian" +
	" cher:Cherokee chrs:Chorasmian copt:Coptic cpmn:Cypro_Minoan cprt:Cypriot cyrl:Cyrillic" +
	" deva:Devanagari diak:Dives_Akuru dogr:Dogra dsrt:Deseret dupl:Duployan egyp:Egyptian_Hieroglyphs" +
	" elba:Elbasan elym:Elymaic ethi:Ethiopic geor:Georgian glag:Glagolitic gong:Gunjala_Gondi" +
	" gonm:Masaram_Gondi goth:Gothic gran:Grantha grek:Greek gujr:Gujarati guru:Gurmukhi hang:Hangul" +
	" hani:Han hano:Hanunoo hatr:Hatran hebr:Hebrew hira:Hiragana hluw:Anatolian_Hieroglyphs" +
	" hmng:Pahawh_Hmong hmnp:Nyiakeng_Puachue_Hmong hung:Old_Hungarian ital:Old_Italic java:Javanese" +
	" kali:Kayah_Li kana:Katakana khar:Kharoshthi khmr:Khmer khoj:Khojki kits:Khitan_Small_Script" +
	" knda:Kannada kthi:Kaithi lana:Tai_Tham laoo:Lao latn:Latin lepc:Lepcha limb:Limbu lina:Linear_A" +
	" linb:Linear_B lyci:Lycian lydi:Lydian mahj:Mahajani maka:Makasar mand:Mandaic mani:Manichaean" +
	" marc:Marchen medf:Medefaidrin mend:Mende_Kikakui merc:Meroitic_Cursive mero:Meroitic_Hieroglyphs" +
	" mlym:Malayalam mong:Mongolian mroo:Mro mtei:Meetei_Mayek mult:Multani mymr:Myanmar nagm:Nag_Mundari" +
	" nand:Nandinagari narb:Old_North_Arabian nbat:Nabataean nkoo:Nko nshu:Nushu ogam:Ogham olck:Ol_Chiki" +
	" orkh:Old_Turkic orya:Oriya osge:Osage osma:Osmanya ougr:Old_Uyghur palm:Palmyrene pauc:Pau_Cin_Hau" +
	" perm:Old_Permic phag:Phags_Pa phli:Inscriptional_Pahlavi phlp:Psalter_Pahlavi phnx:Phoenician" +
	" plrd:Miao prti:Inscriptional_Parthian qaac:Coptic qaai:Inherited rjng:Rejang rohg:Hanifi_Rohingya" +
	" runr:Runic samr:Samaritan sarb:Old_South_Arabian saur:Saurashtra sgnw:SignWriting shaw:Shavian" +
	" shrd:Sharada sidd:Siddham sind:Khudawadi sinh:Sinhala sogd:Sogdian sogo:Old_Sogdian" +
	" sora:Sora_Sompeng soyo:Soyombo sund:Sundanese sylo:Syloti_Nagri syrc:Syriac tagb:Tagbanwa" +
	" takr:Takri tale:Tai_Le talu:New_Tai_Lue taml:Tamil tang:Tangut tavt:Tai_Viet telu:Telugu" +
	" tfng:Tifinagh tglg:Tagalog thaa:Thaana tibt:Tibetan tirh:Tirhuta tnsa:Tangsa ugar:Ugaritic vaii:Vai" +
	" vith:Vithkuqi wara:Warang_Citi wcho:Wancho xpeo:Old_Persian xsux:Cuneiform yezi:Yezidi yiii:Yi" +
	" zanb:Zanabazar_Square zinh:Inherited zyyy:Common "

// The normalised names of the properties that are supported.
const propertyAliases = " ahex:ASCII_Hex_Digit alpha:Alphabetic alphabetic:Alphabetic asciihexdigit:ASCII_Hex_Digit" +
	" bidic:Bidi_Control bidicontrol:Bidi_Control cased:Cased dash:Dash dep:Deprecated" +
	" deprecated:Deprecated dia:Diacritic diacritic:Diacritic ext:Extender extender:Extender" +
	" gc:General_Category generalcategory:General_Category hex:Hex_Digit hexdigit:Hex_Digit hyphen:Hyphen" +
	" ideo:Ideographic ideographic:Ideographic idsb:IDS_Binary_Operator" +
	" idsbinaryoperator:IDS_Binary_Operator idst:IDS_Trinary_Operator" +
	" idstrinaryoperator:IDS_Trinary_Operator joinc:Join_Control joincontrol:Join_Control" +
	" loe:Logical_Order_Exception logicalorderexception:Logical_Order_Exception lower:Lowercase" +
	" lowercase:Lowercase math:Math nchar:Noncharacter_Code_Point" +
	" noncharactercodepoint:Noncharacter_Code_Point oalpha:Other_Alphabetic" +
	" odi:Other_Default_Ignorable_Code_Point ogrext:Other_Grapheme_Extend oidc:Other_ID_Continue" +
	" oids:Other_ID_Start olower:Other_Lowercase omath:Other_Math otheralphabetic:Other_Alphabetic" +
	" otherdefaultignorablecodepoint:Other_Default_Ignorable_Code_Point" +
	" othergraphemeextend:Other_Grapheme_Extend otheridcontinue:Other_ID_Continue" +
	" otheridstart:Other_ID_Start otherlowercase:Other_Lowercase othermath:Other_Math" +
	" otheruppercase:Other_Uppercase oupper:Other_Uppercase patsyn:Pattern_Syntax" +
	" patternsyntax:Pattern_Syntax patternwhitespace:Pattern_White_Space patws:Pattern_White_Space" +
	" pcm:Prepended_Concatenation_Mark prependedconcatenationmark:Prepended_Concatenation_Mark" +
	" qmark:Quotation_Mark quotationmark:Quotation_Mark radical:Radical" +
	" regionalindicator:Regional_Indicator ri:Regional_Indicator sc:Script script:Script sd:Soft_Dotted" +
	" sentenceterminal:Sentence_Terminal softdotted:Soft_Dotted space:White_Space sterm:Sentence_Terminal" +
	" term:Terminal_Punctuation terminalpunctuation:Terminal_Punctuation uideo:Unified_Ideograph" +
	" unifiedideograph:Unified_Ideograph upper:Uppercase uppercase:Uppercase" +
	" variationselector:Variation_Selector vs:Variation_Selector whitespace:White_Space" +
	" wspace:White_Space "

// The normalised names of the other Unicode properties. They come before
// categories and scripts of the same name, so they must be known to be refused.
const otherProperties = " age bc bidiclass bidim bidimirrored bidimirroringglyph bidipairedbracket bidipairedbrackettype blk" +
	" block bmg bpb bpt canonicalcombiningclass casefolding caseignorable ccc ce cf changeswhencasefolded" +
	" changeswhencasemapped changeswhenlowercased changeswhennfkccasefolded changeswhentitlecased" +
	" changeswhenuppercased ci cjkaccountingnumeric cjkcompatibilityvariant cjkiicore cjkirggsource" +
	" cjkirghsource cjkirgjsource cjkirgkpsource cjkirgksource cjkirgmsource cjkirgssource cjkirgtsource" +
	" cjkirguksource cjkirgusource cjkirgvsource cjkothernumeric cjkprimarynumeric cjkrsunicode compex" +
	" compositionexclusion cwcf cwcm cwkcf cwl cwt cwu decompositionmapping decompositiontype" +
	" defaultignorablecodepoint di dm dt ea eastasianwidth ebase ecomp emod emoji emojicomponent" +
	" emojimodifier emojimodifierbase emojipresentation epres equideo equivalentunifiedideograph" +
	" expandsonnfc expandsonnfd expandsonnfkc expandsonnfkd extendedpictographic extpict fcnfkc" +
	" fcnfkcclosure fullcompositionexclusion gcb graphemebase graphemeclusterbreak graphemeextend" +
	" graphemelink grbase grext grlink hangulsyllabletype hst idc idcompatmathcontinue idcompatmathstart" +
	" idcontinue ids idstart idsu idsunaryoperator incb indicconjunctbreak indicpositionalcategory" +
	" indicsyllabiccategory inpc insc isc jamoshortname jg joininggroup joiningtype jsn jt" +
	" kaccountingnumeric kcompatibilityvariant kehcat kehdesc kehhg kehifao kehjsesh kehnomirror" +
	" kehnorotate kiicore kirggsource kirghsource kirgjsource kirgkpsource kirgksource kirgmsource" +
	" kirgssource kirgtsource kirguksource kirgusource kirgvsource kothernumeric kprimarynumeric" +
	" krsunicode lb lc linebreak lowercasemapping mcm modifiercombiningmark na na1 name namealias nfcqc" +
	" nfcquickcheck nfdqc nfdquickcheck nfkccasefold nfkccf nfkcqc nfkcquickcheck nfkcscf" +
	" nfkcsimplecasefold nfkdqc nfkdquickcheck nt numerictype numericvalue nv ocomment sb scf" +
	" scriptextensions scx sentencebreak sfc simplecasefolding simplelowercasemapping" +
	" simpletitlecasemapping simpleuppercasemapping slc stc suc tc titlecasemapping uc unicode1name" +
	" unicoderadicalstroke uppercasemapping urs verticalorientation vo wb wordbreak xidc xidcontinue xids" +
	" xidstart xonfc xonfd xonfkc xonfkd "
