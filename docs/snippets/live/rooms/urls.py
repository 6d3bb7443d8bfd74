"""Where the views are mounted."""

from django.urls import path

from . import views

urlpatterns = [
    path("rooms/<int:pk>/", views.room),
    path("class/<int:pk>/", views.RoomPage.as_view()),
    path("log/<int:pk>/", views.log),
    path("poke/<int:user>/", views.poke),
    path("token/", views.live_token),
]
