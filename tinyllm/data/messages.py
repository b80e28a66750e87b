"""Short messages written for tinyllm, some of them spam: one in five, as in a mailbox. No download.

Each is one of the forms with its gaps filled. Both kinds speak of money, prizes and telephones, so that no single word
tells which it is.
"""

from .order import key

SPAM = (
    "CONGRATULATIONS! You have won {prize}. Claim it now: {link}", "URGENT: your {account} is locked. Verify it at {link}",
    "{prize} is waiting for you! Call {number} before midnight", "Earn {sum} a week from home, no experience needed. {link}",
    "FREE entry into our draw for {prize}. Text WIN to {number}", "Your {account} could not be charged. Update here: {link}",
    "Final notice: unclaimed {prize} in your name. Reply YES to {number}", "Loan of {sum} approved!! No checks. {link}",
    "Hot singles near you want to chat. Text HOT to {number}, {sum} a message", "Your parcel is held. Pay {sum}: {link}",
    "You are today's lucky visitor! Answer 3 questions and get {prize}: {link}", "Cheap meds, no prescription, {link}",
    "Double your {sum} in 7 days, guaranteed. {link}", "Tax refund of {sum} due. Confirm your card at {link}",
    "Dear customer, we tried to reach you about {prize}. Call {number} now", "LAST CHANCE: 90% off watches at {link}",
)  # fmt: skip
HAM = (
    "Are you coming to {place} {time}?", "I'm at {place}, where are you?", "Call me back {time}? {name} asked for you",
    "Happy birthday {name}! See you {time}", "Running late, be at {place} in ten minutes", "Did {name} win the match?",
    "Thanks for dinner, {name}. It was lovely", "Don't forget the {thing} {time}", "{name} has lost the {thing} again",
    "Your {thing} is ready, you can pick it up at {place} {time}", "The {thing} is at {place}", "ok, see you {time} :)",
    "I owe you {sum} for the {thing}, will pay you back {time}", "Could you text me {name}'s number? I need it {time}",
    "We're having a free concert at {place} {time}, bring {name}!", "The prize for best cake goes to {name}, hurrah",
    "Hi {name}, my new number is {number}. Call me {time}", "I got the job!!! Tell {name} I'll call {time}",
    "Reminder: dentist {time}, near {place}", "Is the {thing} still free {time}? {name} needs it",
    "Won't make it {time}, the train to {place} was cancelled", "Your account of the trip made {name} laugh so much",
)  # fmt: skip
FILLERS = {
    "prize": ("a brand new phone", "a holiday for two", "£1000 cash", "a $500 gift card", "a luxury car", "€2,000"),
    "link": ("http://win-now.example/x1", "www.prizes4u.example", "bit.example/9qz", "http://secure-login.example"),
    "account": ("bank account", "credit card", "mail account", "subscription", "delivery"),
    "number": ("0906 555 0147", "80082", "0871 555 0112", "555-0199", "07700 900321"),
    "sum": ("£1.50", "$50", "£350", "20 euros", "$2.99", "€15"),
    "place": ("the station", "Lena's house", "the library", "the gym", "school", "the corner café", "the office"),
    "time": ("tonight", "tomorrow", "on Friday", "at 6", "after work", "this weekend", "in an hour", "on the 4th"),
    "name": ("Tom", "Aisha", "Lena", "Marco", "Grandpa", "Priya", "Jon", "the kids"),
    "thing": ("car", "keys", "blue bag", "spare room", "milk", "guitar", "tickets", "homework", "ladder"),
}


def messages(count: int = 900) -> tuple[list[str], list[str]]:
    """(texts, their labels, spam or ham) in a fixed order that mixes both."""
    texts, labels = [], []
    for number in range(count):
        spam = key(11, number) % 5 == 0
        forms = SPAM if spam else HAM
        form = forms[key(11, number, 1) % len(forms)]
        text = form.format(
            **{gap: words[key(11, number, i) % len(words)] for i, (gap, words) in enumerate(FILLERS.items(), 2)}
        )
        texts.append(text)
        labels.append("spam" if spam else "ham")
    return texts, labels
