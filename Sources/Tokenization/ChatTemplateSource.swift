import Glibc
import JSONValues

/// A chat template as a model's files have it, not parsed yet.
package struct ChatTemplateSource: Sendable {
  /// Where a template stands.
  package enum Place: Sendable, Equatable {
    /// In a JSON file.
    case json(file: String, path: [JSONText.Step])
    /// In a file of its own; the name counts from the model's folder.
    case file(String)
    /// In a GGUF's metadata.
    case metadata(String)
    /// Nowhere in the model: a caller says it.
    case given

    /// For people.
    package var description: String {
      switch self {
      case .json(let file, let path):
        path.reduce(file + ":") { text, step in
          switch step {
          case .key(let key): text + (text.hasSuffix(":") ? " " : ".") + key
          case .index(let index): text + "[\(index)]"
          }
        }
      case .file(let name): name
      case .metadata(let key): key
      case .given: "the given chat template"
      }
    }
  }

  /// What keeps a template from being read.
  package struct Defect: Error {
    /// The file in the model's folder.
    package var file: String
    /// The key whose value is of the wrong type; `nil` where the file itself cannot be read.
    package var key: String?
    /// What is wrong.
    package var message: String
    /// What was expected of the key's value.
    package var expected = ""
  }

  /// `default`, `tool_use` or another name.
  package var name: String
  /// Where it stands.
  package var place: Place
  /// Its text.
  package var source: String

  /// Makes a source.
  package init(name: String, place: Place, source: String) {
    self.name = name
    self.place = place
    self.source = source
  }

  /// The templates of a folder, and what is wrong with them.
  ///
  /// Files of their own (`chat_template.jinja`, `additional_chat_templates/NAME.jinja`) replace what
  /// tokenizer_config.json says.
  package static func find(
    in folder: String, configuration: JSONValue?
  ) -> (sources: [ChatTemplateSource], defects: [Defect]) {
    var sources: [ChatTemplateSource] = []
    var defects: [Defect] = []
    func read(_ name: String, _ file: String) {
      do throws(TokenizationError) {
        guard let bytes = try TextFile.read(folder + "/" + file) else { return }
        sources.append(Self(name: name, place: .file(file), source: String(decoding: bytes, as: UTF8.self)))
      } catch {
        let path = folder + "/" + file + ": "
        let message = error.description
        defects.append(
          Defect(file: file, message: message.hasPrefix(path) ? String(message.dropFirst(path.count)) : message))
      }
    }
    read(ChatTemplates.standardName, standardFile)
    for file in namedFiles(in: folder) { read(String(file.dropFirst(namedFolder.count).dropLast(ending.count)), file) }
    if sources.isEmpty, let value = configuration?["chat_template"], !value.isNull {
      readConfigured(value, &sources, &defects)
    }
    return (sources, defects)
  }

  /// The file of the default template.
  package static let standardFile = "chat_template.jinja"
  private static let namedFolder = "additional_chat_templates/"
  private static let ending = ".jinja"

  /// The files of the templates beside the default one, in order.
  package static func namedFiles(in folder: String) -> [String] {
    guard let directory = opendir(folder + "/" + namedFolder) else { return [] }
    defer { closedir(directory) }
    var names: [String] = []
    while let entry = readdir(directory) {
      let name = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
      if name.hasSuffix(ending), name.count > ending.count { names.append(namedFolder + name) }
    }
    return names.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
  }

  /// `chat_template` of tokenizer_config.json: one source, or a list of names and sources.
  private static func readConfigured(
    _ value: JSONValue, _ sources: inout [ChatTemplateSource], _ defects: inout [Defect]
  ) {
    let file = "tokenizer_config.json"
    func wrongType(_ key: String, _ value: JSONValue, _ expected: String) {
      defects.append(
        Defect(
          file: file, key: key, message: "\(key) is \(value.kind), \(expected) was expected", expected: expected))
    }
    if let source = value.string {
      sources.append(
        Self(name: ChatTemplates.standardName, place: .json(file: file, path: ["chat_template"]), source: source))
    } else if let list = value.array {
      for (index, entry) in list.enumerated() {
        guard let name = entry["name"]?.string, let source = entry["template"]?.string else {
          wrongType("chat_template[\(index)]", entry, "an object with \"name\" and \"template\"")
          continue
        }
        let place = Place.json(file: file, path: ["chat_template", .index(index), "template"])
        sources.append(Self(name: name, place: place, source: source))
      }
    } else {
      wrongType("chat_template", value, "a string or a list of templates")
    }
  }
}

extension GGUFTokenizerMetadata {
  /// The key of a template in a GGUF's metadata.
  package static func chatTemplateKey(_ name: String) -> String {
    "tokenizer.chat_template" + (name == ChatTemplates.standardName ? "" : "." + name)
  }

  /// The templates of a GGUF file.
  var chatTemplateSources: [ChatTemplateSource] {
    let named = namedChatTemplates.map { (name: $0.name, source: $0.source) }
    let all = (chatTemplate.map { [(name: ChatTemplates.standardName, source: $0)] } ?? []) + named
    return all.map {
      ChatTemplateSource(name: $0.name, place: .metadata(Self.chatTemplateKey($0.name)), source: $0.source)
    }
  }
}

extension ChatTemplates {
  /// Parses the templates that lie in `folder`, or in the file at `folder`.
  ///
  /// Throws a `TokenizationError` that names the place.
  init(_ sources: [ChatTemplateSource], in folder: String?) throws(TokenizationError) {
    for source in sources {
      do throws(TemplateError) {
        self[source.name] = try ChatTemplate(source: source.source)
      } catch {
        throw TokenizationError("\(folder.map { $0 + "/" } ?? "")\(source.place.description): \(error)")
      }
    }
  }

  /// The templates of a folder.
  ///
  /// Throws a `TokenizationError` that names file and place.
  init(folder: String, configuration: JSONValue?) throws(TokenizationError) {
    let (sources, defects) = ChatTemplateSource.find(in: folder, configuration: configuration)
    if let defect = defects.first { throw TokenizationError("\(folder)/\(defect.file): \(defect.message)") }
    try self.init(sources, in: folder)
  }
}

extension ChatTemplate {
  /// Reads a template from a file of its own.
  ///
  /// Throws a `TokenizationError` that names the file and the place in it.
  public init(file path: String) throws(TokenizationError) {
    guard let bytes = try TextFile.read(path) else { throw TokenizationError("\(path): no such file") }
    do throws(TemplateError) {
      self = try ChatTemplate(source: String(decoding: bytes, as: UTF8.self))
    } catch {
      throw TokenizationError("\(path): \(error)")
    }
  }
}
