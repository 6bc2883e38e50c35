import JSONValues
import ModelFiles
import Tokenization

/// A change of one place of a model's files.
enum Edit: Sendable {
  /// Sets a value of a JSON file.
  case set(file: String, path: [JSONText.Step], JSONValue)
  /// Gives a key of a JSON file another name.
  case rename(file: String, path: [JSONText.Step], to: String)
  /// Takes elements out of a list.
  case removeElements(file: String, path: [JSONText.Step], Set<Int>)
  /// Puts an element into a list.
  case insertElement(file: String, path: [JSONText.Step], JSONValue, atStart: Bool)
  /// Changes stretches of a template.
  case template(ChatTemplateSource.Place, [TemplateEdit])
  /// Sets an entry of a GGUF's metadata.
  case metadata(key: String, GGUFValue)
}

/// A stretch of a template's source, in UTF-8, and what comes there.
struct TemplateEdit: Sendable, Equatable {
  var range: Range<Int>
  var text: String

  /// A source after edits that lie in order and apart from each other.
  static func apply(_ edits: [TemplateEdit], to source: String) -> String {
    var bytes = Array(source.utf8)
    for edit in edits.reversed() { bytes.replaceSubrange(edit.range, with: Array(edit.text.utf8)) }
    return String(decoding: bytes, as: UTF8.self)
  }
}
