/// Why a repository cannot be had, in the one line that a user sees.
public struct HubError: Error, CustomStringConvertible, Equatable, Sendable {
  /// What is wrong, and what to do about it.
  public let description: String
  /// Whether asking again later may help; the cache can serve meanwhile.
  let isTransient: Bool
  /// Whether the hub has no such model, or shows it to nobody without leave: the name may have meant something else.
  public let isAboutTheModel: Bool

  /// An error with its line.
  init(_ description: String, isTransient: Bool = false, isAboutTheModel: Bool = false) {
    self.description = description
    self.isTransient = isTransient
    self.isAboutTheModel = isAboutTheModel
  }

  /// The user's ^C: what was fetched so far stays.
  static let cancelled = HubError("stopped; the same command goes on where this one ended")
}
