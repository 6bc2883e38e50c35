import Glibc
import JSONValues
import ModelFiles
import Tokenization

/// What a model's files say of its tokens and its template: read raw, so that what is broken can still be looked at.
struct Patient: Sendable {
  /// What kind of model it is.
  enum Kind: Sendable {
    case folder
    case gguf(GGUFFile)
  }

  /// A template and where it stands.
  struct Template: Sendable {
    /// `default`, `tool_use` or another name.
    var name: String
    var place: ChatTemplateSource.Place
    var source: String
    var parsed: Result<ChatTemplate, TemplateError>

    init(_ found: ChatTemplateSource) {
      name = found.name
      place = found.place
      source = found.source
      parsed = Result { () throws(TemplateError) in try ChatTemplate(source: found.source) }
    }

    /// A template that a caller wants instead of the model's own.
    init(_ given: ChatTemplate) {
      name = ChatTemplates.standardName
      place = .given
      source = given.source
      parsed = .success(given)
    }
  }

  /// Something that says which token has a role.
  struct Claim: Sendable {
    var role: SpecialRole
    /// `nil` for a GGUF.
    var file: String?
    var path: [JSONText.Step]
    /// The token by its text, or by ids.
    var content: String?
    var ids: [Int]?

    /// For people: `config.json: eos_token_id`.
    var place: String {
      let key = path.compactMap { if case .key(let key) = $0, key != "content" { key } else { nil } }
      return (file.map { $0 + ": " } ?? "") + (file == nil ? role.metadataKey : key.joined(separator: "."))
    }
  }

  let path: String
  let kind: Kind
  /// The JSON files that could be read, by name.
  var files: [String: JSONFile] = [:]
  /// What was wrong while reading.
  var findings: [Finding] = []
  var claims: [Claim] = []
  var templates: [Template] = []
  var vocabulary = Vocabulary()
  /// The tokenizer, where the files make one.
  var tokenizer: Tokenizer?
  /// Whether the tokenizer itself puts BOS before a text.
  var addsBOS = false
  /// Rows of the embedding as the configuration promises them.
  var promisedRows: Int?
  /// The weights' matrices from and to tokens, where there are weights.
  var embedding: StoredTensor?
  var head: StoredTensor?

  /// The value of a JSON file's key.
  func value(_ file: String, _ key: String) -> JSONValue? { files[file]?.value[key] }

  /// The template of conversations without tools.
  var template: Template? { templates.first { $0.name == ChatTemplates.standardName } }

  /// The token of a role as programs see it: the first file that names one counts.
  func declared(_ role: SpecialRole) -> SpecialToken? {
    for claim in claims where claim.role == role {
      if let content = claim.content { return SpecialToken(content: content, id: vocabulary.id(of: content)) }
      if case .gguf = kind, let id = claim.ids?.first, let content = vocabulary.content(of: id) {
        return SpecialToken(content: content, id: id)
      }
    }
    return nil
  }

  /// Rows of the embedding: those of the weights, else those that the configuration promises.
  var rows: Int? { embedding.map { $0.rowCount } ?? promisedRows }

  /// Names and texts of special tokens, as templates see them.
  func templateVariables(_ changes: [SpecialRole: SpecialToken] = [:]) -> JSONObject {
    var variables = tokenizer?.templateVariables ?? [:]
    for role in SpecialRole.allCases {
      if let token = changes[role] ?? declared(role) { variables[role.tokenKey] = .string(token.content) }
    }
    return variables
  }
}
