from django.shortcuts import redirect, render

from .models import Note


def board(request):
    if request.method == "POST":
        Note.objects.create(text=request.POST["text"][:200])
        return redirect("/")
    return render(request, "board/board.html", {"notes": Note.objects.order_by("pk")})
