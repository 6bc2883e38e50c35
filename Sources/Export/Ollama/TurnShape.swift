/// What a chat template writes around the words of a conversation, where that is always the same.
///
/// `opening` stands before a conversation without a system message; each message then has a text before and after it, and
/// where the assistant is to answer, `generation` follows the user's words.
struct TurnShape: Sendable, Equatable {
  /// The texts around a message's words.
  struct Frame: Sendable, Equatable {
    var before = ""
    var after = ""
  }

  /// Where the system message goes.
  enum SystemPlace: Sendable, Equatable {
    /// A turn of its own: what is before it at the start of a conversation.
    case turn(atStart: String)
    /// Within the first user's turn, before the words.
    case firstUser
    /// Within the user's turn that an answer is to follow, before the words.
    case lastUser
    /// Nowhere: the template refuses or drops it.
    case nowhere
  }

  /// A message of a conversation.
  struct Message: Sendable, Equatable {
    var role: String
    var content: String
  }

  /// What stands at the start where there is no system message.
  var opening = ""
  /// What stands before the first user's words instead of `user.before`, where it differs.
  var firstUser: String?
  var system = Frame()
  var systemPlace = SystemPlace.nowhere
  var user = Frame()
  var assistant = Frame()
  /// What stands before an answer that is begun instead of `assistant.before`, where it differs.
  var begunAnswer: String?
  var generation = ""
  /// The system message that the template writes where there is none.
  var defaultSystem: String?
  /// Whether the template takes white space off the ends of a message, which Ollama's language cannot.
  var trimsContent = false
  /// Whether the template writes descriptions of tools.
  var knowsTools = false

  /// The text of a conversation: ready for the answer after a user's message, in the middle of it after the assistant's.
  func render(_ messages: [Message]) -> String {
    var text = ""
    let systemText = messages.first?.role == "system" ? messages.first?.content : nil
    for (index, message) in messages.enumerated() {
      let isLast = index == messages.count - 1
      if index == 0, message.role != "system" { text += opening }
      switch message.role {
      case "system":
        guard case .turn(let atStart) = systemPlace else { continue }
        text += (index == 0 ? atStart : system.before) + message.content + system.after
      case "user":
        let isFirst = index == 0 || (index == 1 && systemText != nil)
        text += isFirst ? firstUser ?? user.before : user.before
        let holdsSystem =
          switch systemPlace {
          case .firstUser: index == 1
          case .lastUser: isLast
          default: false
          }
        if holdsSystem, let systemText { text += system.before + systemText + system.after }
        text += message.content + user.after + (isLast ? generation : "")
      default:
        text += isLast ? begunAnswer ?? assistant.before : assistant.before
        text += message.content + (isLast ? "" : assistant.after)
      }
    }
    return text
  }
}
