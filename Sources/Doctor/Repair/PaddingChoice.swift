import JSONValues
import Tokenization

/// Which token should fill batches: a reserved one of the family's own that nothing uses, UNK, or a new one.
struct PaddingChoice {
  struct Option {
    var token: SpecialToken
    /// Why it, for people.
    var reason: String
    /// Whether it is a token that exists and means nothing else.
    var isReserved: Bool
    /// What must be changed beside naming it.
    var edits: [Edit] = []
  }

  /// The best there is.
  let best: Option?

  init(_ patient: Patient, _ plan: Plan) {
    let taken = SpecialRole.allCases.filter { $0 != .pad }.compactMap { role in
      [plan.token(role, of: patient), patient.declared(role)].compactMap { $0 }
    }.flatMap { $0 }
    let sources = patient.templates.map { Array($0.source.utf8) }
    let free = patient.vocabulary.added.filter { token in
      let special = SpecialToken(content: token.content, id: Int(token.id))
      return !taken.contains(special) && patient.rows.map { Int(token.id) < $0 } ?? true
        && !sources.contains { find(token.content.utf8, in: $0) != nil }
    }
    func option(_ token: AddedToken, _ reason: String) -> Option {
      Option(token: SpecialToken(content: token.content, id: Int(token.id)), reason: reason, isReserved: true)
    }
    let named = free.map { (token: $0, kind: Kind($0.content)) }
    if let token = named.first(where: { $0.kind == .padding })?.token {
      best = option(token, "which is named for it and which nothing uses")
    } else if let token = named.filter({ $0.kind == .reserved && $0.token.isSpecial }).max(by: {
      $0.token.id < $1.token.id
    })?.token {
      best = option(token, "a reserved token that nothing uses")
    } else if let token = named.first(where: { $0.kind == .otherPadding && $0.token.isSpecial })?.token {
      best = option(token, "which pads what this model's texts do not have")
    } else if let unknown = patient.declared(.unk), let id = unknown.id,
      patient.rows.map({ id < $0 }) ?? true, unknown != plan.token(.eos, of: patient),
      unknown != plan.token(.bos, of: patient), unknown != plan.turnEnd
    {
      best = Option(token: unknown, reason: "UNK, since no token is reserved", isReserved: false)
    } else {
      best = Self.new(patient)
    }
  }

  /// What a token's name says of its use.
  private enum Kind {
    case padding, reserved, otherPadding, none

    init(_ name: String) {
      let words = name.lowercased().split { !$0.isLetter }.map(String.init)
      let others: Set = ["image", "img", "vision", "video", "audio", "speech", "fim", "box", "quad"]
      let reserved: Set = ["reserved", "dummy", "unused", "extra", "placeholder", "control"]
      if words.contains("pad") || words.contains("padding") {
        self = others.isDisjoint(with: words) ? .padding : .otherPadding
      } else {
        self = reserved.isDisjoint(with: words) ? .none : .reserved
      }
    }
  }

  /// A new token in a row of the embedding that has none.
  private static func new(_ patient: Patient) -> Option? {
    let id = patient.vocabulary.highestID + 1
    guard case .folder = patient.kind, patient.tokenizer != nil, patient.hasTokenizerJSON, let rows = patient.rows,
      id < rows, patient.vocabulary.id(of: "<|pad|>") == nil
    else { return nil }
    let fields: JSONObject = [
      "content": "<|pad|>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
      "special": true,
    ]
    var entry: JSONObject = ["id": .integer(id)]
    for (key, value) in fields { entry[key] = value }
    var edits: [Edit] = [
      .insertElement(file: "tokenizer.json", path: ["added_tokens"], .object(entry), atStart: false)
    ]
    if patient.value("tokenizer_config.json", "added_tokens_decoder")?.object != nil {
      edits.append(
        .set(file: "tokenizer_config.json", path: ["added_tokens_decoder", .key("\(id)")], .object(fields)))
    }
    return Option(
      token: SpecialToken(content: "<|pad|>", id: id), reason: "a new token in a spare row of the embedding",
      isReserved: true, edits: edits)
  }
}
